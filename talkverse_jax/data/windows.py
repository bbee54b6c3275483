"""Which stretch of a video a sample shows, and which other frame is its reference. Frames are at 25 fps."""

from dataclasses import KW_ONLY, dataclass

import numpy as np

from talkverse_jax.core.errors import UserError
from talkverse_jax.data.batches import Kind
from talkverse_jax.media.bad_sample import BadSample
from talkverse_jax.media.frame_rate import FPS
from talkverse_jax.models.vae.config import Strides

_APART = 15  # frames between a window and a reference outside it


@dataclass(frozen=True)
class Lengths:
    """Frames of a window.

    Attributes:
      num_frames: to be learnt; whole latent frames.
      motion_frames: before them.
      always_motion: reject what is too short for motion frames.
      strides: what a latent stands for.

    Raises:
      UserError: num_frames are no whole latent frames.
    """

    num_frames: int
    motion_frames: int
    always_motion: bool = False
    _: KW_ONLY
    strides: Strides

    def __post_init__(self):
        stride = self.strides.time
        if self.num_frames < stride or self.num_frames % stride:
            raise UserError(
                f"{self.num_frames}: a latent frame holds {stride} frames; give a multiple of {stride}",
                field="num_frames",
            )

    @property
    def latent_frames(self) -> int:
        """Latent frames to be learnt."""
        return self.num_frames // self.strides.time

    def motion(self, kind: Kind) -> int:
        """Motion frames of a window of that kind."""
        return self.motion_frames if kind == "motion" else 0

    def window(self, kind: Kind) -> int:
        """All frames of a window of that kind."""
        return self.motion(kind) + self.num_frames

    def kind(self, frames: int) -> Kind:
        """The kind of window that so many frames are enough for.

        Raises:
          BadSample: they are too few.
        """
        kind: Kind = "motion" if frames >= self.window("motion") else "short"
        least = self.window("motion" if self.always_motion else "short")
        if frames < least:
            raise BadSample("too short", f"{frames} frames at {FPS} fps in its longest scene; {least} are needed")
        return kind


@dataclass(frozen=True)
class Window:
    """What a sample shows: frames start .. start + length - 1, and the frame `reference`."""

    start: int
    length: int
    reference: int


def choose(rng: np.random.Generator, scene: tuple[int, int], length: int, frames: int) -> Window:
    """A window anywhere in the scene, and a reference anywhere outside it, 15 frames away.

    Where the video has no frame so far away, the reference is one of the window.

    Args:
      scene: first and last frame that may be shown.
      frames: of the video.
    """
    start = int(rng.integers(scene[0], scene[1] - length + 2))
    end = start + length
    before, after = max(0, start - _APART), max(0, frames - end - _APART)
    place = int(rng.integers(before + after or length))
    if not before + after:
        return Window(start, length, start + place)
    return Window(start, length, place if place < before else end + _APART + place - before)
