"""How loud a voice is at each frame of a video, and how a mouth goes with it."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

FPS = 25
MOST_LAG = 10  # frames
RATE = 16000

_BAND = (300.0, 3400.0)  # Hz, of vowels: hiss lies above, what hums through a shut mouth mostly below
_WINDOW = 0.040  # seconds of sound heard for a moment
_STEVENS = 0.6  # loudness goes with this power of the pressure
_LEAST = 25  # frames from the first sound to the last: less tells nothing
_SILENT = 0.05  # of the loudest


def loudness(sound: Float[np.ndarray, " n"], times: Float[np.ndarray, " T"]) -> Float[np.ndarray, " T"]:
    """The loudness of the vowels' band at those seconds; the loudest is 1, and 0 is silence.

    Args:
      sound: mono, at `RATE` Hz; silence after its end.
    """
    length = round(_WINDOW * RATE)
    centres = np.round(np.asarray(times) * RATE).astype(int)
    padded = np.pad(sound, (length, max(0, centres.max(initial=0) + 2 * length - len(sound))))
    pieces = padded[centres[:, None] + np.arange(length) + length // 2]
    power = np.abs(np.fft.rfft(pieces * np.hanning(length))) ** 2
    hertz = np.fft.rfftfreq(length, 1 / RATE)
    pressure = np.sqrt(power[:, (hertz >= _BAND[0]) & (hertz <= _BAND[1])].sum(1))
    return (pressure / max(pressure.max(initial=0), 1e-9)) ** _STEVENS


def speaking(loud: Float[np.ndarray, " T"]) -> Bool[np.ndarray, " T"]:
    """The frames from the first to the last that is not silent."""
    heard = np.flatnonzero(loud > _SILENT)
    chosen = np.zeros(len(loud), bool)
    if len(heard):
        chosen[heard[0] : heard[-1] + 1] = True
    return chosen


@dataclass(frozen=True)
class Sync:
    """How a mouth goes with a sound.

    Attributes:
      correlation: of opening and loudness in the same frames; 0 where either stands still.
      lag: frames by which the mouth is late when both go best together; None where either stands still.
      best: the correlation then.
    """

    correlation: float
    lag: int | None
    best: float


def sync(opening: Float[np.ndarray, " T"], loud: Float[np.ndarray, " T"], least: float) -> Sync | None:
    """Compare a mouth with a sound, both cut where the sound begins and ends; None where little is said.

    Args:
      opening: of the mouth, in any unit.
      least: standard deviation below which a mouth stands still.
    """
    chosen = np.flatnonzero(speaking(loud))
    if len(chosen) < _LEAST:
        return None
    if opening[chosen].std() < least or loud[chosen].std() < 1e-3:
        return Sync(0.0, None, 0.0)
    lags = range(-MOST_LAG, MOST_LAG + 1)
    values = [_correlation(opening, loud, chosen, lag) for lag in lags]
    best = int(np.argmax(values))
    return Sync(float(values[MOST_LAG]), lags[best], float(values[best]))


def _correlation(
    opening: Float[np.ndarray, " T"], loud: Float[np.ndarray, " T"], chosen: np.ndarray, lag: int
) -> float:
    """Pearson's, of the sound and the mouth `lag` frames later."""
    heard = chosen[(chosen + lag >= 0) & (chosen + lag < len(opening))]
    mouth, sound = opening[heard + lag], loud[heard]
    spread = mouth.std() * sound.std()
    return float(np.mean((mouth - mouth.mean()) * (sound - sound.mean())) / spread) if spread > 0 else 0.0
