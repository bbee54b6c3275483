"""Flow matching: the straight path x = (1 - sigma) data + sigma noise, and the noise levels sampled on it."""

import dataclasses
from typing import Any

import numpy as np

from talkverse_jax.diffusion.names import SolverName

NUM_TRAIN_TIMESTEPS = 1000


@dataclasses.dataclass(frozen=True)
class Schedule:
    """The noise levels a sampler visits.

    Attributes:
      sigmas: [steps + 1], falling, the last one 0; float64.
      timesteps: [steps] handed to the model: 1000 sigma, which `make_schedule` truncates but for students.
    """

    sigmas: np.ndarray
    timesteps: np.ndarray

    @property
    def steps(self) -> int:
        return len(self.timesteps)

    def below(self, strength: float) -> "Schedule":
        """The part that starts from data under noise of that strength: the levels that are not above it.

        Where all are, one step from there.
        """
        if strength >= 1:
            return self
        level = noise_level(strength)
        kept = self.timesteps <= level * NUM_TRAIN_TIMESTEPS + 0.5
        if not kept.any():
            return Schedule(np.array([level, 0.0]), np.array([round(level * NUM_TRAIN_TIMESTEPS)], np.int32))
        first = int(np.argmax(kept))
        return Schedule(self.sigmas[first:], self.timesteps[first:])


def noise_level(strength: float) -> float:
    """The strength in whole timesteps, as a share of all."""
    return int(strength * NUM_TRAIN_TIMESTEPS) / NUM_TRAIN_TIMESTEPS


def moved(even: Any, shift: float) -> Any:
    """Noise levels from 0 to 1, an array of any kind, moved towards noise by `shift`; 1 leaves them where they are."""
    return shift * even / (1 + (shift - 1) * even)


def make_schedule(solver: SolverName, steps: int, shift: float) -> Schedule:
    """The schedule of `steps` noise levels, moved towards noise by `shift` (1 leaves them even).

    UniPC starts at 0.999, the first of its 1000 training levels; the others start at pure noise. Timesteps are
    truncated from the float64 levels, and the solvers see the levels rounded to float32, both as in the
    original: near pure noise 1 - sigma keeps only a few digits, so the rounding is visible.

    Of re-noising the timesteps are not truncated: four steps are 1000, 750, 500, 250 before the shift, and 1000, 937.5,
    833.3, 625 after one of 5, which published students were trained at (Self-Forcing, LongLive, lightx2v).
    """
    highest = float(np.float32(1 - 1 / NUM_TRAIN_TIMESTEPS)) if solver == "unipc" else 1.0
    even = np.linspace(highest, 0.0, steps + 1)[:-1]
    sigmas = moved(even, shift)
    timesteps = (sigmas * NUM_TRAIN_TIMESTEPS).astype(np.float32 if solver == "renoise" else np.int32)
    return Schedule(np.append(sigmas, 0.0).astype(np.float32).astype(np.float64), timesteps)
