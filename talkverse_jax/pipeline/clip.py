"""What a pipeline makes: clips of a video, and how they follow one another.

Shapes: n frames, H W pixels.
"""

import dataclasses
import itertools
import math
from typing import Any, Self

import numpy as np
from jaxtyping import Float, UInt8

from talkverse_jax.media.frame_rate import FPS


@dataclasses.dataclass(frozen=True)
class Clip:
    """One finished clip. Of several processes, process 0 alone has the frames.

    Attributes:
      index: of the clip in its video, from 0.
      frames: in [-1, 1]; as a pipeline makes them, also those that the video does not show (see `Timeline.cut`).
      latents: that they were decoded from.
    """

    index: int
    frames: Float[np.ndarray, "n H W 3"] | None
    latents: Float[np.ndarray, "F h w C"]

    @property
    def pictures(self) -> UInt8[np.ndarray, "n H W 3"]:
        """The frames as bytes."""
        assert self.frames is not None, "process 0 alone has the frames"
        return np.round(np.nan_to_num(self.frames) * 127.5 + 127.5).astype(np.uint8)

    @property
    def finite(self) -> bool:
        """Whether all numbers are finite."""
        return bool(np.isfinite(self.latents).all() and (self.frames is None or np.isfinite(self.frames).all()))


@dataclasses.dataclass(frozen=True)
class Timeline:
    """The clips of a video and what it shows of them; a family may put its own arithmetic in `shown_of`.

    Attributes:
      clips: of the video.
      starts: the place of each clip's first frame among all frames, before the trim.
      frames: that the clips are cut to.
      trim: of these, frames left out at the start, with their sound.
    """

    clips: int
    starts: tuple[int, ...]
    frames: int
    trim: int = 0

    @property
    def shown(self) -> int:
        """Frames of the video."""
        return self.frames - self.trim

    @property
    def audio_start(self) -> float:
        """Seconds of the sound left out in front."""
        return self.trim / FPS

    def shown_of(self, clip: int) -> slice:
        """Which frames of a clip the video shows: up to the first frame of the next one."""
        start = self.starts[clip]
        end = self.starts[clip + 1] if clip + 1 < self.clips else self.frames
        return slice(max(0, self.trim - start), max(0, min(end, self.frames) - start))

    def ended(self, seconds: float | None, clips: int | None) -> Self:
        """The same, ended after so many seconds of video, rounded up to a frame, and after so many clips; clips that
        show nothing of that are left out, and the others show what they did."""
        count, frames = min(self.clips, clips or self.clips), self.frames
        if count < self.clips:
            frames = self._end(count - 1)
        if seconds is not None and (last := self.trim + max(1, math.ceil(seconds * FPS - 1e-6))) < frames:
            count, frames = next(clip for clip in range(count) if self._end(clip) >= last) + 1, last
        return self if (count, frames) == (self.clips, self.frames) else self._first(count, frames)

    def _end(self, clip: int) -> int:
        """Frames until a clip's last one, before the trim."""
        return self.starts[clip] + self.shown_of(clip).stop

    def _first(self, clips: int, frames: int) -> Self:
        """So many clips and frames of it."""
        return dataclasses.replace(self, clips=clips, starts=self.starts[:clips], frames=frames)

    def cut(self, clip: Clip) -> Clip:
        """The clip with the frames that the video shows."""
        if clip.frames is None:
            return clip
        return dataclasses.replace(clip, frames=clip.frames[self.shown_of(clip.index)])

    @property
    def borders(self) -> tuple[int, ...]:
        """The frames of the video at which its clips begin, but for the first clip."""
        shown = [max(0, part.stop - part.start) for part in map(self.shown_of, range(self.clips))]
        return tuple(itertools.accumulate(shown[:-1]))

    def __str__(self) -> str:
        plural = "s" * (self.clips != 1)
        return f"{self.shown} frames ({self.shown / FPS:.2f} s) in {self.clips} clip{plural}"


State = Any  # a family's own: all that the next clip must know; `state.clip` is the number of the next clip
