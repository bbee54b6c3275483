"""Which stretch of a video a sample shows, and which other frame is its reference. Frames are at 25 fps."""

from dataclasses import dataclass

import numpy as np

from talkverse_jax.core.errors import UserError
from talkverse_jax.data.batches import Kind
from talkverse_jax.data.skipped import BadSample

FPS = 25
_APART = 15  # frames between a window and a reference outside it


@dataclass(frozen=True)
class Lengths:
    """Frames of a window.

    Attributes:
      num_frames: to be learnt; a multiple of 4, as a latent frame shows four.
      motion_frames: before them.
      always_motion: reject what is too short for motion frames.

    Raises:
      UserError: num_frames is no multiple of 4.
    """

    num_frames: int = 120
    motion_frames: int = 73
    always_motion: bool = False

    def __post_init__(self):
        if self.num_frames < 4 or self.num_frames % 4:
            raise UserError(f"--num_frames {self.num_frames}: a latent frame is four; give a multiple of 4")

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
            raise BadSample("too short", f"{frames} frames at 25 fps in its longest scene; {least} are needed")
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
