"""Opening sound and video files with PyAV (it carries its own FFmpeg), with errors a user can read."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av
import av.error
import av.stream
from av.container import InputContainer

from talkverse_jax.core import files
from talkverse_jax.core.errors import UserError
from talkverse_jax.core.paths import expanded, on_disk
from talkverse_jax.media.wav import as_ffmpeg_reads

# PyAV 18 refuses a file with tags in another encoding unless told so; PyAV 19 reads it and lacks the option.
_ANY_TAGS: Any = {"metadata_errors": "replace"} if int(av.__version__.split(".")[0]) < 19 else {}


def absolute(path: str | Path) -> Path:
    """The path from the root, `~` resolved.

    Raises:
      UserError: there is no such user's home.
    """
    return expanded(path).absolute()


def existing_file(path: str | Path, what: str) -> Path:
    """The path made absolute: FFmpeg would take the front of `12:30.wav` for a protocol.

    Args:
      what: what the file should hold, for the message: "a picture", "a sound".

    Raises:
      UserError: there is no such file, or it is a folder or empty.
    """
    file = on_disk(absolute(path))
    if os.path.isdir(file):
        raise UserError(f"{path}: is a folder; give the file of {what}")
    if not os.path.exists(file):  # Path.exists raises for a name that is too long
        raise UserError(f"{path}: no such file; give the file of {what}")
    if os.path.isfile(file) and file.stat().st_size == 0:
        raise UserError(f"{path}: the file is empty; give the file of {what}")
    return file


def same_file(one: str | Path, other: str | Path) -> bool:
    """Whether two names are of one file on this machine's disks."""
    paths = absolute(one), absolute(other)
    return all(map(os.path.exists, paths)) and os.path.samefile(*paths)


@contextmanager
def open_media(path: str | Path, what: str) -> Iterator[InputContainer]:
    """Open a sound or video file for reading; FFmpeg's errors, in the body too, become a `UserError`."""
    remote = files.is_remote(path)
    opened = files.open_file(path, what) if remote else as_ffmpeg_reads(existing_file(path, what))
    try:
        with opened as file, av.open(file, **_ANY_TAGS) as container:
            yield container
    except PermissionError as error:
        if isinstance(error, av.error.FFmpegError) and error.errno != errno.EACCES:  # readers of FFmpeg's that give up
            raise UserError(f"{path}: cannot be read as {what} (damaged); convert it first") from None
        raise UserError(f"{path}: may not be read; check its permissions") from None
    except av.error.FFmpegError as error:
        raise UserError(f"{path}: cannot be read as {what} ({error.strerror}); convert it first") from None


def packets(container: InputContainer, stream: av.stream.Stream) -> Iterator[av.Packet]:
    """The packets of a stream of an open file, from where it stands, and an empty one at the end."""
    try:
        yield from container.demux(stream)
    except IndexError:  # of PyAV 18, behind the end, where another stream has appeared on the way
        return
