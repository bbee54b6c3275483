"""The noise levels of a clip: even steps from 1000 to 1, moved towards noise by a shift, and then none.

Of a student, which re-noises, the steps are those of `diffusion.flow`: 1000, 750, 500, 250 before the shift.
"""

import numpy as np

from talkverse_jax.diffusion import flow
from talkverse_jax.diffusion.flow import NUM_TRAIN_TIMESTEPS, Schedule
from talkverse_jax.families.multitalk.settings import Settings


def schedule_of(settings: Settings) -> Schedule:
    """The schedule of a clip's solver."""
    if settings.sample_solver == "renoise":
        return flow.make_schedule("renoise", settings.sample_steps, settings.shift)
    return make_schedule(settings.sample_steps, settings.shift)


def make_schedule(steps: int, shift: float) -> Schedule:
    """The schedule in the original's arithmetic, float32 throughout: timesteps are fractions, and the model gets them
    as they are.

    Args:
      shift: 1 leaves the steps even; 7 and 11 are the original's for its two tables of sizes.
    """
    share = _even(steps) / np.float32(NUM_TRAIN_TIMESTEPS)
    shift32 = np.float32(shift)
    times = np.float32(NUM_TRAIN_TIMESTEPS) * (shift32 * share / (np.float32(1) + (shift32 - np.float32(1)) * share))
    return Schedule(np.append(times, 0).astype(np.float64) / NUM_TRAIN_TIMESTEPS, times)


def _even(steps: int) -> np.ndarray:
    """From 1000 to 1; the second half counted from its end, as PyTorch's linspace does."""
    first, last = np.float32(NUM_TRAIN_TIMESTEPS), np.float32(1)
    if steps == 1:
        return np.array([first])
    step = (last - first) / np.float32(steps - 1)
    number = np.arange(steps)
    up, down = first + step * number.astype(np.float32), last - step * (steps - 1 - number).astype(np.float32)
    return np.where(number < steps // 2, up, down)
