"""The video whose person is to say something else."""

from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import UInt8

from talkverse_jax.core.errors import UserError
from talkverse_jax.media.bad_sample import BadSample
from talkverse_jax.media.buckets import Fit
from talkverse_jax.media.fit import bring
from talkverse_jax.media.frame_rate import FPS
from talkverse_jax.media.image import check_sides
from talkverse_jax.media.media import existing_file
from talkverse_jax.media.video_reader import open_video

VideoEnd = Literal["hold", "loop"]


class SourceVideo:
    """A video's pictures at 25 a second of its own clock, whatever its frame rate: picture k is the one that is
    shown k/25 s after the first.

    Only the pictures that are asked for are in memory.

    Attributes:
      start: when its first picture is shown, in seconds of its clock, which its sound shares.
      frames: of the video, at 25 a second.
      height, width: as it is shown.
      has_sound: whether it has a sound of its own.
      notes: what is changed or assumed in reading it, a few words each.
    """

    def __init__(self, path: str | Path, end: VideoEnd = "hold", fit: Fit = "pad"):
        """
        Args:
          end: what is shown behind its end: its last picture, or all of it again.
          fit: how its pictures are brought to a size.

        Raises:
          UserError: it cannot be read, or is too small.
        """
        self.path, self._end, self._bring = existing_file(path, "a video"), end, partial(bring, fit=fit)
        try:
            with open_video(str(self.path), sound=False) as video:
                probe, self.has_sound = video.probe(), video.has_sound
        except BadSample as error:
            raise self._error(error) from None
        self.start, self.frames = probe.start, max(1, probe.frames)
        self.height, self.width, self.notes = probe.height, probe.width, probe.notes
        check_sides(path, self.width, self.height, "video")

    def read(self, first: int, count: int, size: tuple[int, int]) -> UInt8[np.ndarray, "count H W 3"]:
        """Pictures first .. first + count - 1, brought to `size` (H, W) as a single picture is.

        Picture 0 stands in front of the video, and behind it what `end` says.

        Raises:
          UserError: they are damaged.
        """
        wanted = np.maximum(np.arange(first, first + count), 0)
        wanted = wanted % self.frames if self._end == "loop" else np.minimum(wanted, self.frames - 1)
        rounds = np.split(wanted, np.flatnonzero(np.diff(wanted) < 0) + 1)
        try:
            with open_video(str(self.path), sound=False) as video:
                return np.concatenate([video.pictures(self.start + part / FPS, size, self._bring) for part in rounds])
        except BadSample as error:
            raise self._error(error) from None

    def _error(self, error: BadSample) -> UserError:
        what = f"{error.reason} ({error.detail})" if error.detail else error.reason
        return UserError(f"{self.path}: cannot be dubbed: {what}; convert the video first")
