"""How loud a sound is, by ITU-R BS.1770 (gated, one channel), read block by block.

Two filters stand for the ear and the head; the power of blocks of 400 ms, one begun every 100 ms, is averaged over
those that are loud enough: silence between words does not make a sound quieter.
"""

import math
from collections.abc import Iterable

import numpy as np
from jaxtyping import Float, Float64

from talkverse_jax.core.errors import UserError

TARGET = -23.0  # LUFS, of broadcasting (EBU R 128)

_BLOCK = 0.4  # seconds
_STEPS = 4  # in which a block passes
_FULL_SCALE = -0.691  # dB: a sine of 997 Hz at full scale has -3.01 LUFS
_SILENT = -70.0  # LUFS; a quieter block counts nowhere
_RELATIVE = -10.0  # LU below the average of the others; so does one that is quieter than that
_BELIEVED = 100.0  # LUFS, either way; what is beyond is silence, or no sound


def loudness(blocks: Iterable[Float[np.ndarray, " _"]], rate: int, name: str = "audio") -> float:
    """In LUFS; minus infinity of silence.

    Args:
      blocks: the sound, one channel in [-1, 1], in parts of any length.
      rate: in Hz.
      name: of the sound, for the error.

    Raises:
      UserError: the sound is shorter than a block, 0.4 s.
    """
    powers = _powers(blocks, rate, name)
    loud = powers[_level(powers) >= _SILENT]
    if not len(loud):
        return -math.inf
    threshold = max(float(_level(loud.mean())) + _RELATIVE, _SILENT)
    loud = powers[_level(powers) > threshold]
    return float(_level(loud.mean())) if len(loud) else -math.inf


def gain(lufs: float, target: float = TARGET) -> float:
    """By what to multiply a sound of that loudness to have the target's; 1 where it is silent."""
    return 10 ** ((target - lufs) / 20) if abs(lufs) <= _BELIEVED else 1.0


def _level(power):
    """LUFS of a mean square; a number or an array."""
    with np.errstate(divide="ignore"):
        return _FULL_SCALE + 10 * np.log10(power)


def _powers(blocks: Iterable[Float[np.ndarray, " _"]], rate: int, name: str) -> Float64[np.ndarray, " m"]:
    """The mean square of every 400 ms of the filtered sound; the last may be cut short, and is as if it were not."""
    sums, samples = _step_sums(blocks, rate)
    length = samples / rate
    if length < _BLOCK:
        raise UserError(f"{name}: {length:.2f} s long; give {_BLOCK} s or more, or nobody can tell how loud it is")
    count = round((length - _BLOCK) / _BLOCK * _STEPS) + 1
    padded = np.array([*sums, *[0.0] * _STEPS])
    return np.lib.stride_tricks.sliding_window_view(padded, _STEPS).sum(1)[:count] / (_BLOCK * rate)


def _step_sums(blocks: Iterable[Float[np.ndarray, " _"]], rate: int) -> tuple[list[float], int]:
    """The sums of squares of every 100 ms of the filtered sound, and its length in samples."""
    from scipy.signal import lfilter  # 0.9 s to import, which most runs do without

    filters, states = (_high_shelf(rate), _high_pass(rate)), [np.zeros(2), np.zeros(2)]
    sums, total, done, end = [], 0.0, 0, _step_end(1, rate)
    for block in blocks:
        y = block.astype(np.float64)
        for i, (b, a) in enumerate(filters):
            y, states[i] = lfilter(b, a, y, zi=states[i])
        squares = np.square(y)
        while done + len(squares) >= end:
            sums.append(total + float(squares[: end - done].sum()))
            squares, done, total, end = squares[end - done :], end, 0.0, _step_end(len(sums) + 1, rate)
        total, done = total + float(squares.sum()), done + len(squares)
    return [*sums, total], done


def _step_end(steps: int, rate: int) -> int:
    """The sample behind so many steps."""
    return int(_BLOCK * (steps / _STEPS) * rate)


Coefficients = tuple[Float64[np.ndarray, "3"], Float64[np.ndarray, "3"]]  # of the input, of the output


def _high_shelf(rate: int) -> Coefficients:
    """4 dB more above 1500 Hz, as a head adds (R. Bristow-Johnson's formulas, Q 1/sqrt 2)."""
    a, cos, alpha = 10 ** (4.0 / 40), *_angle(1500.0, 1 / math.sqrt(2), rate)
    root = 2 * math.sqrt(a) * alpha
    b = [a * (a + 1 + (a - 1) * cos + root), -2 * a * (a - 1 + (a + 1) * cos), a * (a + 1 + (a - 1) * cos - root)]
    return np.array(b), np.array(
        [a + 1 - (a - 1) * cos + root, 2 * (a - 1 - (a + 1) * cos), a + 1 - (a - 1) * cos - root]
    )


def _high_pass(rate: int) -> Coefficients:
    """Less below 38 Hz (Q 1/2)."""
    cos, alpha = _angle(38.0, 0.5, rate)
    return np.array([(1 + cos) / 2, -(1 + cos), (1 + cos) / 2]), np.array([1 + alpha, -2 * cos, 1 - alpha])


def _angle(frequency: float, q: float, rate: int) -> tuple[float, float]:
    """Its cosine, and the formulas' alpha."""
    angle = 2 * math.pi * frequency / rate
    return math.cos(angle), math.sin(angle) / (2 * q)
