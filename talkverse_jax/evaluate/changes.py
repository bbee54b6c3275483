"""How much a picture changes from frame to frame: usually, at the start, where clips meet and at keyframes.

T frames have n = T - 1 differences, the mean absolute ones of neighbours, 0 to 255; number 0 is that of frame 1.
"""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8

_FIRST = 10  # differences that count as the start


@dataclass(frozen=True)
class FrameChanges:
    """Differences of neighbouring frames; all but the first figure are multiples of it.

    Attributes:
      usual: their median, 0 to 255.
      first_ten: the largest of the first ten.
      border: the mean of those where clips meet; None where it is not known that any do.
      keyframe: the mean of those at other keyframes, but for the first frame; None where there is none.
    """

    usual: float
    first_ten: float
    border: float | None
    keyframe: float | None

    @classmethod
    def of(
        cls, differences: Float[np.ndarray, " n"], borders: Collection[int], keyframes: Collection[int]
    ) -> "FrameChanges":
        """From the frames at which clips begin, but for the first, and those that are coded as keyframes."""
        usual = float(np.median(differences))
        multiples = differences / max(usual, 1e-6)
        return cls(
            usual=usual,
            first_ten=float(multiples[:_FIRST].max()),
            border=_mean_at(multiples, borders),
            keyframe=_mean_at(multiples, set(keyframes) - set(borders) - {0}),
        )


@dataclass(frozen=True)
class Jumps:
    """The mean difference of neighbouring frames: at borders of clips, and elsewhere."""

    borders: int
    at_borders: float
    inside: float

    @classmethod
    def of(cls, differences: Float[np.ndarray, " n"], borders: Collection[int]) -> "Jumps | None":
        """From the frames at which clips begin, but for the first; None where there are none."""
        at = _mean_at(differences, borders)
        if at is None:
            return None
        return cls(len(borders), at, float(np.delete(differences, np.array(list(borders)) - 1).mean()))

    @property
    def ratio(self) -> float:
        return self.at_borders / max(self.inside, 1e-6)


def differences(frames: UInt8[np.ndarray, "T H W 3"]) -> Float[np.ndarray, " T-1"]:
    """Of each frame but the first with the one before it."""
    return np.array([np.abs(after.astype(np.int16) - before).mean() for before, after in zip(frames, frames[1:])])


def _mean_at(values: Float[np.ndarray, " n"], frames: Collection[int]) -> float | None:
    return float(values[np.array(list(frames)) - 1].mean()) if frames else None
