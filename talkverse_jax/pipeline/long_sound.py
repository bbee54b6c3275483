"""Features of a sound of any length in the memory of a minute: wav2vec2 in overlapping windows.

wav2vec2 looks at the whole sound at once, which takes memory that grows with its length (the features of an hour
are 9 GB). Here it looks at windows, one after the other as the clips need them; each gives the rows of its middle,
which it sees with `_MARGIN` seconds of sound on both sides. docs/sampling.md says how far these are from the
features of one pass.

Shapes: T rows of 25 a second.
"""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float, Float32, Int

from talkverse_jax.core.errors import UserError
from talkverse_jax.media.audio import SoundFile
from talkverse_jax.media.frame_rate import FPS
from talkverse_jax.pipeline.encoders import SAMPLE_RATE, AudioEncoder

_MARGIN = 10  # seconds of sound that a window sees on both sides of its rows
_KEPT = 2  # windows; a clip may lie across a border


def check_window(seconds: int) -> None:
    """Make sure that windows of that length have a middle; 0 is none.

    Raises:
      UserError: they have not.
    """
    if seconds and seconds < 3 * _MARGIN:
        raise UserError(f"--audio_window {seconds}: give {3 * _MARGIN} seconds or more, or 0 for one pass")


def sound_features(
    encoder: AudioEncoder, sound: SoundFile, window: int
) -> "Float[np.ndarray, 'T layers D'] | WindowedFeatures":
    """Features of the sound by row.

    Args:
      window: seconds; of a sound that is no longer, or where it is 0, all is encoded in one pass, now.
    """
    if not window or sound.duration <= window:
        return encoder.encode(np.concatenate(list(sound.mono(SAMPLE_RATE))))
    return WindowedFeatures(encoder, sound, window)


class WindowedFeatures:
    """Rows of features that are made when they are asked for, in order; `features[rows]` and `len` as of an array.

    Several processes must ask for the same.
    """

    def __init__(self, encoder: AudioEncoder, sound: SoundFile, window: int):
        self._encoder, self._window, self._step = encoder, window, window - 2 * _MARGIN
        self._reader = _Reader(sound)
        count, total, squares = 0, 0.0, 0.0
        for block in sound.mono(SAMPLE_RATE):
            count += len(block)
            total += block.sum(dtype=np.float64)
            squares += np.square(block, dtype=np.float64).sum()
        self._samples, self._mean = count, total / count
        self._scale = 1 / np.sqrt(squares / count - self._mean**2 + 1e-7)
        self._rows = encoder.rows(count)
        self._known: dict[int, Float[np.ndarray, "n layers D"]] = {}

    def __len__(self) -> int:
        return self._rows

    def __getitem__(self, rows: Int[np.ndarray, " n"]) -> Float[np.ndarray, "n layers D"]:
        windows = np.maximum(0, (rows - FPS * _MARGIN) // (FPS * self._step))
        first = FPS * self._step * windows  # row of each one's window
        parts = [self._features(w)[(rows - first)[windows == w]] for w in np.unique(windows)]
        return np.concatenate(parts)

    def _features(self, window: int) -> Float[np.ndarray, "n layers D"]:
        """All rows of a window, the first at its start."""
        if window not in self._known:
            start = window * self._step * SAMPLE_RATE
            room = self._window * SAMPLE_RATE
            waveform = self._reader.read(start, min(start + room, self._samples))
            normalised = ((waveform - self._mean) * self._scale).astype(np.float32)
            while len(self._known) >= _KEPT:
                self._known.pop(next(iter(self._known)))
            self._known[window] = self._encoder.encode_normalised(normalised, room)
        return self._known[window]


class _Reader:
    """Stretches of a sound, each starting no earlier than the one before; an earlier one starts anew."""

    def __init__(self, sound: SoundFile):
        self._sound, self._blocks = sound, iter(())
        self._begin, self._held = np.inf, np.zeros(0, np.float32)

    def read(self, start: int, stop: int) -> Float32[np.ndarray, " n"]:
        if start < self._begin:
            self._blocks: Iterator = self._sound.mono(SAMPLE_RATE)
            self._begin, self._held = 0, np.zeros(0, np.float32)
        parts, end = [self._held], self._begin + len(self._held)
        while end < stop:
            block = next(self._blocks)
            parts, end = [*parts, block], end + len(block)
            if end <= start:  # all of it lies before
                parts, self._begin = [block[:0]], end
        held = np.concatenate(parts)
        self._held, self._begin = held[start - self._begin :], start
        return self._held[: stop - start]
