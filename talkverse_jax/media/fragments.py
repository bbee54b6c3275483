"""How far an mp4 that is being written can be played: to the end of its last whole fragment."""

from pathlib import Path

_HEAD = 8  # bytes of a box's length and kind
_LONG_HEAD = 16


def playable_bytes(path: Path) -> int:
    """Bytes from the start of a fragmented mp4 that are whole fragments; 0 while there is none, or no file."""
    try:
        size, file = path.stat().st_size, path.open("rb")
    except FileNotFoundError:
        return 0
    at = whole = 0
    with file:
        while at + _HEAD <= size:
            file.seek(at)
            head = file.read(_LONG_HEAD)
            length = int.from_bytes(head[:4], "big")
            if length == 1:
                length = int.from_bytes(head[_HEAD:_LONG_HEAD], "big")
            if length < _HEAD or at + length > size:
                break
            at += length
            if head[4:_HEAD] == b"mdat":
                whole = at
    return whole
