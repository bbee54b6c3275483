"""The denoising loop: one compiled step, called for every noise level of every clip."""

from collections.abc import Callable
from functools import partial

import jax
import numpy as np
from jaxtyping import Array, Float

from talkverse_jax.core.compilation import model_jit
from talkverse_jax.diffusion.flow import Schedule, SolverName
from talkverse_jax.diffusion.guidance import guided_velocity
from talkverse_jax.diffusion.solvers import (
    SolverState,
    StepCoefficients,
    advance,
    solver_coefficients,
    start,
)
from talkverse_jax.families.talkverse.model import ClipConditions, TalkVerse


@partial(model_jit, donate_argnames="state")
def denoising_step(
    model: TalkVerse,
    state: SolverState,
    timestep: Float[Array, ""],
    coefficients: StepCoefficients,
    conditions: ClipConditions,
    guide_scale: Float[Array, ""],
) -> SolverState:
    """One step of any solver. The state's buffers are reused for the result."""
    velocity = guided_velocity(model, state.sample, timestep, conditions, guide_scale)
    return jax.tree.map(model.layout.constrain, advance(state, velocity, coefficients))


def denoise(
    model: TalkVerse,
    noise: Float[Array, "B F h w C"],
    conditions: ClipConditions,
    *,
    solver: SolverName,
    schedule: Schedule,
    guide_scale: float,
    on_step: Callable[[], None] = lambda: None,
) -> Float[Array, "B F h w C"]:
    """Walk the schedule from noise to latents; `on_step` is called as each step finishes."""
    # Where later states will be, which is whole on every device: jit compiles once more for another place.
    place = model.layout.sharding() or conditions.clean_tokens.sharding
    state = jax.device_put(start(noise), place)
    for timestep, row in zip(schedule.timesteps, solver_coefficients(solver, schedule)):
        state = denoising_step(model, state, np.float32(timestep), row, conditions, np.float32(guide_scale))
        jax.block_until_ready(state.sample)
        on_step()
    return state.sample
