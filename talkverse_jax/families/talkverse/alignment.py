"""Which rows of sound a clip hears, and how many clips a sound needs.

Sound features run at 25 rows a second, one a frame. A clip of n frames takes n rows. The VAE decodes the first
latent frame of a clip without history to one frame instead of a whole stride, so a first clip without motion
context shows fewer: 3 with the published VAE. It also shows fewer by its lead-in (`lost` below counts both).

- `exact`: every latent frame hears the sound of its own frames: the first clip starts `lost` rows early (row 0
  repeated), later clips follow on, and the video ends with the sound.
- `upstream`: clip r takes rows n r .. n r + n - 1 as the original does; the first clip hears 3 frames ahead,
  and every later clip runs 3 frames (120 ms) ahead of the sound.
"""

import math
from typing import Any, Protocol

import numpy as np
from jaxtyping import Float, Int

from talkverse_jax.families.talkverse.settings import AudioAlignment, Settings


class FeatureRows(Protocol):
    """Features by row: an array, or what makes them when they are asked for."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Int[np.ndarray, " n"], /) -> Any: ...


def clip_audio(features: FeatureRows, start: int, frames: int) -> Float[np.ndarray, "frames layers A"]:
    """Rows start .. start + frames - 1; row 0 stands in front of the sound and zeros after it."""
    rows = np.arange(start, start + frames)
    chosen = features[np.clip(rows, 0, len(features) - 1)]
    return np.where((rows < len(features))[:, None, None], chosen, 0).astype(chosen.dtype)


def first_row(clip: int, frames: int, alignment: AudioAlignment, lost: int) -> int:
    """The row a clip starts at.

    Args:
      lost: frames that the first clip shows less.
    """
    return clip * frames - (lost if alignment == "exact" else 0)


def clips_needed(rows: int, frames: int, alignment: AudioAlignment, lost: int) -> int:
    """Clips of `frames` frames until a sound of `rows` frames is over (the original may add one)."""
    if alignment == "upstream":
        return rows // frames + 1
    return max(1, math.ceil((rows + lost) / frames))


def frames_lost(settings: Settings, time_stride: int) -> int:
    """Frames that the first clip shows less than the others."""
    return settings.lead_in_frames + (0 if settings.init_first_frame else time_stride - 1)
