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
from av.stream import Disposition

from talkverse_jax.core import files
from talkverse_jax.core.errors import UserError
from talkverse_jax.core.paths import expanded
from talkverse_jax.media.kinds import UNMARKED, first_bytes, mark_of
from talkverse_jax.media.walls import LOCAL, Walls
from talkverse_jax.media.wav import as_ffmpeg_reads

# PyAV 18 refuses a file with tags in another encoding unless told so; PyAV 19 reads it and lacks the option.
_ANY_TAGS: Any = {"metadata_errors": "replace"} if int(av.__version__.split(".")[0]) < 19 else {}

_MOST_VALUES = 1 << 24  # of a decoded packet of sound, of all channels


def absolute(path: str | Path) -> Path:
    """The path from the root, `~` resolved.

    Raises:
      UserError: there is no such user's home.
    """
    return expanded(path).absolute()


def same_file(one: str | Path, other: str | Path) -> bool:
    """Whether two names are of one file on this machine's disks."""
    paths = absolute(one), absolute(other)
    return all(map(os.path.exists, paths)) and os.path.samefile(*paths)


@contextmanager
def open_media(
    path: str | Path, what: str, walls: Walls = LOCAL, readers: frozenset[str] | None = None
) -> Iterator[InputContainer]:
    """Open a sound or video file for reading; FFmpeg's errors, in the body too, become a `UserError`.

    FFmpeg is given the open file, and may open nothing by itself, whatever the file names.

    Args:
      walls: what is let in. Frames of more pixels are not decoded.
      readers: FFmpeg's names of those that may read it; by default what `walls` says.

    Raises:
      UserError: it is of another kind, or above the limits as its header tells.
    """
    try:
        with _handed_over(path, what) as file:
            reader = _reader(file, path, what, walls, walls.kinds.media if readers is None else readers)
            reader["options"] = {"max_pixels": _decoded(walls), "protocol_whitelist": "none"} | reader["options"]
            with av.open(file, **reader, **_ANY_TAGS) as container:
                _limit(container, path, walls)
                yield container
    except PermissionError as error:
        if isinstance(error, av.error.FFmpegError) and error.errno != errno.EACCES:  # readers of FFmpeg's that give up
            raise UserError(f"{path}: cannot be read as {what} (damaged); convert it first") from None
        raise UserError(f"{path}: may not be read; check its permissions") from None
    except av.error.FFmpegError as error:
        raise UserError(f"{path}: cannot be read as {what} ({error.strerror}); convert it first") from None


@contextmanager
def _handed_over(path: str | Path, what: str) -> Iterator[Any]:
    """The open file that FFmpeg reads."""
    if files.is_remote(path):
        with files.open_file(path, what) as opened:
            yield opened
    else:
        with files.open_regular(path, what) as opened:
            yield as_ffmpeg_reads(opened)


def _reader(file: Any, path: str | Path, what: str, walls: Walls, allowed: frozenset[str]) -> dict[str, Any]:
    """How FFmpeg is told who reads the file: the one that its first bytes tell; or, of those without a mark, that of
    the allowed ones which knows it.
    """
    head, _ = first_bytes(file)
    file.seek(0)
    mark = mark_of(head)
    if mark is None:
        return {"options": {"format_whitelist": ",".join(sorted(allowed & UNMARKED))}}
    if mark.reader not in allowed:
        raise UserError(f"{path}: is {mark.said}; give the file of {what} ({walls.kinds.such_media})")
    return {"format": mark.reader, "options": {}}


def _decoded(walls: Walls) -> str:
    """Most pixels for FFmpeg's decoders, which count rows rounded up to 64 pixels."""
    return str(walls.max_pixels * 5 // 4 + (1 << 16))


def _limit(container: InputContainer, path: str | Path, walls: Walls) -> None:
    """Look at what the header tells, and have the decoders keep to it.

    Raises:
      UserError: it is above the limits.
    """
    for stream in container.streams:
        if (context := stream.codec_context) is None:
            continue
        if isinstance(context, av.VideoCodecContext) and not stream.disposition & Disposition.attached_pic:
            walls.check_pixels(path, context.width, context.height, "video")
        elif isinstance(context, av.AudioCodecContext) and context.sample_rate:
            walls.check_sound(path, context.sample_rate, context.layout.nb_channels)
        context.options = {"max_pixels": _decoded(walls), "max_samples": str(_MOST_VALUES)}


def packets(container: InputContainer, stream: av.stream.Stream) -> Iterator[av.Packet]:
    """The packets of a stream of an open file, from where it stands, and an empty one at the end."""
    try:
        yield from container.demux(stream)
    except IndexError:  # of PyAV 18, behind the end, where another stream has appeared on the way
        return
