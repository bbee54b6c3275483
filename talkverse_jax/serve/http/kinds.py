"""What a file is by its first bytes, whatever its name and the type that the client gives it."""

from pathlib import Path
from typing import Literal

from talkverse_jax.media.kinds import KINDS, first_bytes, mark_of

Kind = Literal["picture", "film", "sound"]

_PICTURES = {"a picture (PNG)", "a picture (JPEG)", "a picture (WebP)"}
_FILMS = {"mov", "matroska"}  # which may hold a sound alone too


def kind_of(path: Path) -> Kind | None:
    """What a file is; None of what is not let in. A film may turn out to be a sound."""
    with path.open("rb") as file:
        head, tag = first_bytes(file)
    mark = mark_of(head)
    if mark is None:
        return "sound" if _is_mp3(head) else None
    if mark.said in _PICTURES:
        return None if tag else "picture"
    if mark.reader not in KINDS["web"].media:
        return None
    return "film" if mark.reader in _FILMS else "sound"


def _is_mp3(head: bytes) -> bool:
    """Whether it begins with the header of an MPEG frame of a layer, with a bit rate and a rate that there are."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return False
    version, layer = head[1] >> 3 & 3, head[1] >> 1 & 3
    return version != 1 and layer != 0 and head[2] >> 4 not in (0, 15) and head[2] >> 2 & 3 != 3
