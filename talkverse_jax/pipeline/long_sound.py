"""Features of a sound of any length in the memory of a minute: wav2vec2 in overlapping windows.

wav2vec2 looks at the whole sound at once, which takes memory that grows with its length (the features of an hour
are 9 GB). Here it looks at windows, one after the other as the clips need them; each gives the rows of its middle,
which it sees with `_MARGIN` seconds of sound on both sides. docs/sampling.md says how far these are from the
features of one pass.

Shapes: T rows of 25 a second.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

import numpy as np
from jaxtyping import Float, Float32, Int

from talkverse_jax.core.errors import UserError
from talkverse_jax.media.frame_rate import FPS
from talkverse_jax.pipeline.encoders import SAMPLE_RATE

_MARGIN = 10  # seconds of sound that a window sees on both sides of its rows
_KEPT = 2  # windows; a clip may lie across a border


def check_window(seconds: int) -> None:
    """Make sure that windows of that length have a middle; 0 is none.

    Raises:
      UserError: they have not.
    """
    if seconds and seconds < 3 * _MARGIN:
        raise UserError(f"--audio_window {seconds}: give {3 * _MARGIN} seconds or more, or 0 for one pass")


class Audible(Protocol):
    """What is heard: a `SoundFile`, or what is made of some."""

    @property
    def duration(self) -> float:
        """Seconds."""
        ...

    def mono(self, rate: int) -> Iterator[Float32[np.ndarray, " n"]]:
        """The samples at `rate` Hz; the same every time."""
        ...


class Heard(Protocol):
    """A sound that its encoder has heard to the end."""

    @property
    def rows(self) -> int: ...

    def encode(
        self, read: Callable[[int, int], Float[np.ndarray, " n"]], first: int, count: int
    ) -> Float[np.ndarray, "n layers D"]:
        """So many rows from `first` on, or those to the end, of their own samples alone."""
        ...


class Hearing(Protocol):
    """A speech encoder with 25 rows a second."""

    def encode(self, waveform: Float[np.ndarray, " samples"]) -> Float[np.ndarray, "T layers D"]: ...

    def measure(self, blocks: Callable[[], Iterable[Float[np.ndarray, " _"]]]) -> Heard: ...


def sound_features(
    encoder: Hearing, sound: Audible, window: int
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

    def __init__(self, encoder: Hearing, sound: Audible, window: int):
        self._rows, self._step = FPS * window, FPS * (window - 2 * _MARGIN)
        self._reader = _Reader(sound)
        self._sound = encoder.measure(lambda: sound.mono(SAMPLE_RATE))
        self._known: dict[int, Float[np.ndarray, "n layers D"]] = {}

    def __len__(self) -> int:
        return self._sound.rows

    def __getitem__(self, rows: Int[np.ndarray, " n"]) -> Float[np.ndarray, "n layers D"]:
        windows = np.maximum(0, (rows - FPS * _MARGIN) // self._step)
        first = self._step * windows  # row of each one's window
        parts = [self._features(w)[(rows - first)[windows == w]] for w in np.unique(windows)]
        return np.concatenate(parts)

    def _features(self, window: int) -> Float[np.ndarray, "n layers D"]:
        """All rows of a window, the first at its start."""
        if window not in self._known:
            while len(self._known) >= _KEPT:
                self._known.pop(next(iter(self._known)))
            self._known[window] = self._sound.encode(self._reader.read, int(window) * self._step, self._rows)
        return self._known[window]


class _Reader:
    """Stretches of a sound, each starting no earlier than the one before; an earlier one starts anew."""

    def __init__(self, sound: Audible):
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
