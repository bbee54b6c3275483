"""Features of a sound whose end nobody knows: wav2vec2 hears the last seconds, for each clip anew.

A model like wav2vec2 looks at a whole sound, and hears it at zero mean and unit variance. Here it hears a window that
ends a little behind the last row that is asked for, at the mean and variance of all that was heard until then.
docs/live.md says how far its features are from those of one pass.

Shapes: n samples, T rows of 25 a second, D width.
"""

from typing import Protocol

import numpy as np
from jaxtyping import Float, Float32, Int

from talkverse_jax.media.frame_rate import FPS
from talkverse_jax.pipeline.encoders import SAMPLE_RATE, Scaling
from talkverse_jax.pipeline.endless import UNENDING

ROW = SAMPLE_RATE // FPS  # samples from one row to the next
WINDOW = 8.0  # seconds that are heard
AHEAD = 0.12  # seconds of them behind the last row; an mp4 needs as much, to hand over all pictures of a clip

# Before anything was heard: so many seconds of a voice of that loudness.
_PRIOR_SECONDS, _PRIOR_RMS = 0.5, 0.06
_MEMORY = 60.0  # seconds after which what was heard counts a third
_QUIET = 1e-3  # of full scale, -60 dB: a block that is quieter says nothing of a voice


class Unending(Protocol):
    """A sound that comes while it is read (`media.live_sound.LiveSound`)."""

    @property
    def end(self) -> int: ...

    @property
    def ended(self) -> bool: ...

    def wait(self, until: int) -> bool: ...

    def read(self, start: int, stop: int) -> Float32[np.ndarray, " n"]: ...


class Encodes(Protocol):
    """A speech encoder with 25 rows a second."""

    def encode_normalised(
        self, waveform: Float[np.ndarray, " samples"], room: int
    ) -> Float[np.ndarray, "T layers D"]: ...


class RunningScaling:
    """Mean and variance of all that was heard, what is long ago counting less; silence does not count."""

    def __init__(self) -> None:
        self._count = _PRIOR_SECONDS * SAMPLE_RATE
        self._total, self._squares = 0.0, self._count * _PRIOR_RMS**2

    def hear(self, samples: Float[np.ndarray, " n"]) -> None:
        """Samples that follow on those before."""
        for start in range(0, len(samples), ROW):
            block = samples[start : start + ROW].astype(np.float64)
            if np.square(block).mean() < _QUIET**2:
                continue
            fade = np.exp(-len(block) / (_MEMORY * SAMPLE_RATE))
            self._count = self._count * fade + len(block)
            self._total = self._total * fade + block.sum()
            self._squares = self._squares * fade + np.square(block).sum()

    @property
    def now(self) -> Scaling:
        """What brings it to zero mean and unit variance."""
        mean = self._total / self._count
        return Scaling(float(mean), float(1 / np.sqrt(self._squares / self._count - mean**2 + 1e-7)))


class LiveFeatures:
    """Rows of features, asked for in order; `features[rows]` and `len` as of an array, which waits for its sound.

    Args:
      window: seconds that are heard at once.
      ahead: seconds of them behind the last row; with each the picture comes so much later.
    """

    def __init__(self, encoder: Encodes, sound: Unending, window: float = WINDOW, ahead: float = AHEAD):
        self._encoder, self._sound = encoder, sound
        self._rows, self._ahead = round(window * FPS), round(ahead * SAMPLE_RATE)
        self._scaling, self._heard = RunningScaling(), 0

    def __len__(self) -> int:
        """`UNENDING` until the sound has ended."""
        return max(1, -(-self._sound.end // ROW)) if self._sound.ended else UNENDING

    def __getitem__(self, rows: Int[np.ndarray, " n"]) -> Float[np.ndarray, "n layers D"]:
        stop = (int(rows.max()) + 1) * ROW + self._ahead
        self._sound.wait(stop)
        first = max(0, -(-stop // ROW) - self._rows)
        if rows.min() < first:
            raise ValueError(f"row {rows.min()} lies before the window, which begins at {first}")
        self._hear(stop)
        samples = self._sound.read(first * ROW, stop)
        waveform = np.zeros(max(len(samples), 2 * ROW), np.float32)  # the last row of a sound may be only partly there
        waveform[: len(samples)] = samples
        features = self._encoder.encode_normalised(self._scaling.now(waveform), self._rows * ROW)
        return features[np.minimum(rows - first, len(features) - 1)]

    def _hear(self, stop: int) -> None:
        if stop < self._heard:  # it was a rehearsal
            self._scaling, self._heard = RunningScaling(), 0
        new = self._sound.read(self._heard, stop)
        self._scaling.hear(new)
        self._heard += len(new)
