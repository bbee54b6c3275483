"""By what a sample of a data set is known again, wherever its files lie and whichever row names it."""

import hashlib
import json
import os
from typing import Any, NamedTuple

from talkverse_jax.core import files
from talkverse_jax.core.paths import expanded, on_disk

_PIECE = 2**16  # bytes


class Identity(NamedTuple):
    """Of a sample; two with the same show the same.

    Attributes:
      video: hash of what the video's file holds (see `content`).
      caption: hash of the text.
      rest: hash of all else that decides the sample: its scene, its shape, its keypoints.
    """

    video: str
    caption: str
    rest: str


def content(path: str) -> str:
    """A hash of a file's size and of 64 KB at its beginning, in its middle and at its end.

    All of a data set's files would take hours at every move: two million clips are 7 TB. A video that is encoded or
    cut anew has another index, which lies at its beginning or its end. What this does not see is a file that was
    damaged within and is put back whole: the sample is the one that was meant all along.

    Raises:
      UserError: no such file, or it cannot be read.
    """
    total = hashlib.sha256()
    with files.open_file(path, "a data set") as file:
        size = file.seek(0, os.SEEK_END)
        total.update(str(size).encode())
        for start in sorted({0, max(0, (size - _PIECE) // 2), max(0, size - _PIECE)}):
            file.seek(start)
            total.update(file.read(_PIECE))
    return total.hexdigest()[:32]


def stamp(path: str) -> tuple[int, int]:
    """Size and time of change of a file on a disk, by which one that was replaced is seen without reading it.

    (0, 0) where there is none, and for one in a bucket: to ask after each of millions would take hours.
    """
    if not path or files.is_remote(path):
        return 0, 0
    try:
        found = os.stat(on_disk(expanded(path)))
    except (OSError, ValueError):
        return 0, 0
    return found.st_size, found.st_mtime_ns


def digest(*values: Any) -> str:
    """A hash of values that JSON can hold."""
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()[:16]
