"""The clips of a video, and the rows of sound that each of them hears.

A clip shows what the ones before have not: its first frames are the last ones of the clip before. Behind a sound's end
its hidden states come back in reverse.
"""

import dataclasses
import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple, Self

import numpy as np
from jaxtyping import Int

from talkverse_jax.families.multitalk.config import Recipe
from talkverse_jax.pipeline.clip import Timeline

_UPSTREAM_LOST = 3  # frames at the end, in the original's arithmetic


class Rows(NamedTuple):
    """The rows of a sound that a clip's latent frames hear.

    Attributes:
      first: around its first frame, which is a latent frame of its own.
      later: around the frames of each other latent frame.
    """

    first: Int[np.ndarray, " W"]
    later: Int[np.ndarray, "G V"]


@dataclasses.dataclass(frozen=True)
class Overlapping(Timeline):
    """Clips of `length` frames, the first `overlap` of which are known, but in the first clip."""

    length: int = 0
    overlap: int = 0

    def shown_of(self, clip: int) -> slice:
        known = self.overlap if clip else 0
        return slice(known, max(known, min(self.length, self.frames - self.starts[clip])))


@dataclasses.dataclass(frozen=True)
class Joined(Timeline):
    """The clips of several parts, each part on its own, one behind the other."""

    parts: tuple[Overlapping, ...] = ()

    @classmethod
    def of(cls, parts: Sequence[Overlapping]) -> Self:
        """All of them."""
        begins = itertools.accumulate((part.frames for part in parts), initial=0)
        starts = tuple(begin + start for begin, part in zip(begins, parts) for start in part.starts)
        frames = sum(part.frames for part in parts)
        return cls(sum(part.clips for part in parts), starts, frames, parts=tuple(parts))

    def _first(self, clips: int, frames: int) -> Self:
        parts = []
        for part in self.parts:
            if clips > 0 and frames > 0:
                parts.append(part._first(min(clips, part.clips), min(frames, part.frames)))
            clips, frames = clips - part.clips, frames - part.frames
        return self.of(parts)

    def place(self, clip: int) -> tuple[int, int]:
        """The part that a clip is of, and its number there."""
        for number, part in enumerate(self.parts):
            if clip < part.clips:
                return number, clip
            clip -= part.clips
        raise IndexError(clip)

    def shown_of(self, clip: int) -> slice:
        part, number = self.place(clip)
        return self.parts[part].shown_of(number)


def make_timeline(
    frames: int, length: int, overlap: int, *, most: int | None = None, one_clip: bool = False
) -> Overlapping:
    """The clips that show a sound.

    Args:
      frames: that it lasts.
      length: frames of a clip.
      overlap: frames that a clip has of the one before.
      most: frames of the video.
      one_clip: no more than one.
    """
    frames = min(frames, length if one_clip else frames, most or frames)
    clips = 1 + max(0, math.ceil((frames - length) / (length - overlap)))
    return _overlapping(clips, frames, length, overlap)


def upstream_timeline(
    rows: int, length: int, overlap: int, *, most: int, one_clip: bool = False, recipe: Recipe = "multitalk"
) -> Overlapping:
    """The same as the original counts: MultiTalk's videos are 3 frames shorter than the sound, a video has two clips at
    least, and its end is cut to `most` first and then by what the last clip has no sound for."""
    if one_clip or most <= length:
        return _overlapping(1, min(length, most), length, overlap)
    clips, end, missing = 1, length, 0
    while not missing and end < most:
        clips, end = clips + 1, end + length - overlap
        missing = end - rows + _UPSTREAM_LOST if end >= rows else 0
    made = min(end, most)
    frames = made if not missing else min(made, rows) if recipe == "infinitetalk" else made - missing
    return _overlapping(clips, frames, length, overlap)


def _overlapping(clips: int, frames: int, length: int, overlap: int) -> Overlapping:
    starts = tuple(number * (length - overlap) for number in range(clips))
    return Overlapping(clips, starts, frames, length=length, overlap=overlap)


def heard(start: int, length: int, rows: int, *, window: int, stride: int) -> Rows:
    """The rows of a sound of `rows` that a clip of `length` frames hears from row `start` on.

    Args:
      window: frames that one frame hears, odd; half of them before it.
      stride: frames of a latent frame, after the first.
    """
    half = window // 2
    first = start + np.arange(-half, half + 1)
    begins = start + 1 + stride * np.arange((length - 1) // stride)
    later = begins[:, None] + np.arange(-half, stride + half)
    return Rows(_mirrored(first, rows), _mirrored(later, rows))


def _mirrored(wanted: Int[np.ndarray, "..."], rows: int) -> Int[np.ndarray, "..."]:
    """Rows that are there: before the first the first, behind the last those before it, in reverse."""
    place = np.maximum(wanted, 0) % (2 * rows)
    return np.where(place < rows, place, 2 * rows - 1 - place)
