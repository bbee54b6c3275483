"""Whether a finished mp4 is all there: by its length and its index, without decoding a picture."""

from pathlib import Path

import av
import av.error

_HEAD = 8  # bytes of a box's length and kind
_LONG_HEAD = 16
_NEEDED = {b"ftyp", b"moov", b"mdat"}


def fault(video: Path, frames: int | None, least: int = 0) -> str | None:
    """What is wrong with a finished video, such as one that a power cut left; None where nothing is.

    Args:
      frames: that it has, where it is known.
      least: bytes.
    """
    if not video.is_file():
        return "is no file"
    if (size := video.stat().st_size) < least:
        return f"has {size} bytes of {least}"
    if not _boxes_fit(video, size):
        return f"is no whole mp4 ({size} bytes)"
    try:
        with av.open(str(video)) as container:
            there = container.streams.video[0].frames
    except (av.error.FFmpegError, IndexError):
        return "has a damaged index"
    return None if frames is None or there == frames else f"has {there} frames of {frames}"


def _boxes_fit(video: Path, size: int) -> bool:
    """Whether the boxes that make up an mp4 are there, and end where the file does."""
    kinds, at = set(), 0
    with video.open("rb") as file:
        while at < size:
            file.seek(at)
            head = file.read(_LONG_HEAD)
            length = int.from_bytes(head[:4], "big")
            if length == 1:
                length = int.from_bytes(head[_HEAD:_LONG_HEAD], "big")
            if length < _HEAD:
                return False
            kinds.add(head[4:_HEAD])
            at += length
    return at == size and kinds >= _NEEDED
