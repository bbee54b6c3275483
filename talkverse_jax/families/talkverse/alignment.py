"""Which audio rows a clip hears, and how many clips a sound needs.

Audio features run at 25 rows a second, one a frame. A clip of n frames takes n rows. The VAE decodes the
first latent frame of a clip without history to one pixel frame instead of four, so a first clip without
motion context shows n - 3 frames.

- `exact`: every latent frame hears the sound of its own frames: the first clip starts 3 rows early (row 0
  repeated), later clips follow on, and the video ends with the audio.
- `upstream`: clip r takes rows n r .. n r + n - 1 as the original does; the first clip hears 3 frames ahead,
  and every later clip runs 3 frames (120 ms) ahead of the sound.
"""

import math
from typing import Literal

import numpy as np
from jaxtyping import Float

FPS = 25
FRAMES_LOST = 3  # by a clip decoded without history

AudioAlignment = Literal["exact", "upstream"]


def clip_audio(
    features: Float[np.ndarray, "T layers A"], start: int, frames: int
) -> Float[np.ndarray, "frames layers A"]:
    """Rows start .. start + frames - 1; row 0 stands in front of the sound and zeros after it."""
    rows = np.arange(start, start + frames)
    chosen = features[np.clip(rows, 0, len(features) - 1)]
    return np.where((rows < len(features))[:, None, None], chosen, 0).astype(chosen.dtype)


def first_row(clip: int, frames: int, alignment: AudioAlignment, history: bool) -> int:
    """The row a clip starts at. `history`: the first clip has motion context too (starts from the picture)."""
    early = 0 if history or alignment == "upstream" else FRAMES_LOST
    return clip * frames - early


def clips_needed(rows: int, frames: int, alignment: AudioAlignment, history: bool) -> int:
    """Clips of `frames` frames until a sound of `rows` frames is over (the original may add one)."""
    if alignment == "upstream":
        return rows // frames + 1
    return max(1, math.ceil((rows + (0 if history else FRAMES_LOST)) / frames))


def frames_in_sound(seconds: float) -> int:
    """Video frames that cover the sound: the last one may be only partly heard."""
    return max(1, math.ceil(seconds * FPS - 1e-6))
