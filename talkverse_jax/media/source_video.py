"""The video whose people are to say something else."""

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import UInt8

from talkverse_jax.core.errors import UserError
from talkverse_jax.core.files import regular_file
from talkverse_jax.media.bad_sample import BadSample
from talkverse_jax.media.child import reading
from talkverse_jax.media.fit import Way, bring
from talkverse_jax.media.frame_rate import FPS
from talkverse_jax.media.image import check_sides
from talkverse_jax.media.media import open_media
from talkverse_jax.media.memory import for_pixels
from talkverse_jax.media.video_reader import Video
from talkverse_jax.media.walls import LOCAL, Walls

VideoEnd = Literal["hold", "loop"]
Order = Literal["clock", "frames"]


class SourceVideo:
    """A video's pictures at 25 a second of its own clock, whatever its frame rate: picture k is the one that is
    shown k/25 s after the first. Or, on demand, its frames by number, which then move at another speed.

    Only the pictures that are asked for are in memory.

    Attributes:
      start: when its first picture is shown, in seconds of its clock, which its sound shares.
      frames: how many pictures there are.
      height, width: as it is shown.
      has_sound: whether it has a sound of its own.
      notes: what is changed or assumed in reading it, a few words each.
    """

    def __init__(
        self,
        path: str | Path,
        end: VideoEnd = "hold",
        fit: Way = "pad",
        walls: Walls = LOCAL,
        order: Order = "clock",
    ):
        """
        Args:
          end: what is shown behind its end: its last picture, or all of it again.
          fit: how its pictures are brought to a size.
          walls: what is let in.
          order: "clock": 25 pictures a second; "frames": those of the file, one after the other.

        Raises:
          UserError: it cannot be read, is not let in, or is too small.
        """
        self.path, self._end, self._fit, self._walls = regular_file(path, "a video"), end, fit, walls
        with reading(_probe, str(self.path), walls) as pieces:
            self.start, self.frames, self.height, self.width, notes, self.has_sound = next(pieces)
        self.notes: tuple[str, ...] = tuple(notes)
        check_sides(path, self.width, self.height, "video")
        walls.check_seconds(path, self.frames / FPS, "video")
        self._by_number = order == "frames"
        if self._by_number:
            with reading(_count, str(self.path), walls) as pieces:
                self.frames = next(pieces)

    def read(self, first: int, count: int, size: tuple[int, int]) -> UInt8[np.ndarray, "count H W 3"]:
        """Pictures first .. first + count - 1, brought to `size` (H, W) as a single picture is.

        Picture 0 stands in front of the video, and behind it what `end` says.

        Raises:
          UserError: they are damaged.
        """
        wanted = np.maximum(np.arange(first, first + count), 0)
        wanted = wanted % self.frames if self._end == "loop" else np.minimum(wanted, self.frames - 1)
        rounds = np.split(wanted, np.flatnonzero(np.diff(wanted) < 0) + 1)
        stretches = rounds if self._by_number else [self.start + part / FPS for part in rounds]
        how = (stretches, self._by_number, size, self._fit)
        with (
            for_pixels(self.height * self.width),
            reading(_pictures, str(self.path), self._walls, *how) as pieces,
        ):
            return np.concatenate(list(pieces))


def _probe(path: str, walls: Walls) -> Generator[tuple, None, None]:
    """Yields start, frames, height, width, notes and whether there is sound."""
    with _opened(path, walls) as video:
        probe = video.probe()
        yield probe.start, max(1, probe.frames), probe.height, probe.width, probe.notes, video.has_sound


def _count(path: str, walls: Walls) -> Generator[int, None, None]:
    """Yields how many frames there are."""
    with _opened(path, walls) as video:
        yield len(video.times())


def _pictures(
    path: str, walls: Walls, stretches: list[np.ndarray], by_number: bool, size: tuple[int, int], fit: Way
) -> Generator[UInt8[np.ndarray, "n H W 3"], None, None]:
    """Yields the pictures of each stretch of ascending times, in seconds of the video's clock, or numbers."""
    with _opened(path, walls) as video:
        clock = video.times() if by_number else None
        for stretch in stretches:
            times = stretch if clock is None else clock[stretch]
            yield video.pictures(times, size, partial(bring, fit=fit))


@contextmanager
def _opened(path: str, walls: Walls) -> Iterator[Video]:
    try:
        with open_media(path, "a video", walls) as container:
            yield Video(container, sound=False, walls=walls)
    except BadSample as error:
        what = f"{error.reason} ({error.detail})" if error.detail else error.reason
        raise UserError(f"{path}: cannot be dubbed: {what}; convert the video first") from None
