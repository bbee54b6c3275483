"""The denoising loop: one compiled step, called for every noise level of every clip.

A step is: the latents' fixed parts are written (`Hold`), the model predicts a velocity for every branch, guidance
combines them, the solver advances, the fixed parts are written again. What steps hand on is one pytree, `LoopState`.

Shapes: B samples, F latent frames, h w latent grid, C latent channels; R = B times the branches of guidance.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol, cast, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from talkverse_jax.core.compilation import model_jit
from talkverse_jax.diffusion.flow import Schedule
from talkverse_jax.diffusion.guidance import PLAIN, Guidance, Velocity
from talkverse_jax.diffusion.names import SolverName
from talkverse_jax.diffusion.solvers import (
    SolverState,
    StepCoefficients,
    advance,
    solver_coefficients,
    start,
)
from talkverse_jax.diffusion.sparing import Computed, Walk, everything
from talkverse_jax.sharding.layout import Layout

Latents = Float[Array, "B F h w C"]


@runtime_checkable
class Denoiser(Protocol):
    """A model that the loop can call: a pytree, such as an `nnx.Module`.

    Attributes:
      layout: how its arrays are split.
    """

    layout: Layout

    def prepare(self, *args: Any, **kwargs: Any) -> Any:
        """What all steps of a clip share, from inputs of the family's own: a pytree with R rows."""
        ...

    def velocity(
        self, latents: Float[Array, "R F h w C"], timestep: Float[Array, " R"], conditions: Any
    ) -> Float[Array, "R F h w C"]:
        """Noise minus data at `latents`, float32."""
        ...


@runtime_checkable
class BranchingDenoiser(Denoiser, Protocol):
    """A model that can run fewer branches than its conditions are of."""

    def first_rows(self, conditions: Any, rows: int) -> Any:
        """The conditions of the first rows alone."""
        ...


@runtime_checkable
class CachingDenoiser(Denoiser, Protocol):
    """A model that can leave out most of itself where little has changed since an earlier step."""

    def cached_velocity(
        self, latents: Float[Array, "R F h w C"], timestep: Float[Array, " R"], conditions: Any, cache: Any
    ) -> tuple[Float[Array, "R F h w C"], Any]:
        """The velocity, and a pytree for later steps, such as what the blocks added to each row's tokens.

        Args:
          cache: None where everything is to be computed; else what an earlier step left, to be used in its place and
            handed on.
        """
        ...


class Step(NamedTuple):
    """One step's numbers; traced, so that another step compiles nothing anew."""

    number: Int[Array | np.ndarray, ""]
    timestep: Float[Array | np.ndarray, ""]
    coefficients: StepCoefficients


def steps_of(solver: SolverName, schedule: Schedule) -> list[Step]:
    """The steps of a walk."""
    rows = zip(schedule.timesteps, solver_coefficients(solver, schedule), strict=True)
    return [Step(np.array(i, np.int32), np.array(timestep, np.float32), row) for i, (timestep, row) in enumerate(rows)]


@runtime_checkable
class Hold(Protocol):
    """What overwrites parts of the latents: a pytree (a NamedTuple with these methods), whose arrays are arguments of
    the compiled step. Both methods are traced, and get a key for each sample where the loop has them."""

    def before(self, latents: Latents, step: Step, keys: Key[Array, " B"] | None) -> Latents:
        """The latents that the model is called with; they are at `step.coefficients.sigma`."""
        ...

    def after(self, latents: Latents, step: Step, keys: Key[Array, " B"] | None) -> Latents:
        """The latents that the step ends with; they are at `step.coefficients.following`."""
        ...


class LoopState(NamedTuple):
    """What a step hands to the next one.

    Attributes:
      guidance: its own, such as running averages.
      cache: of a `CachingDenoiser`, or None.
    """

    solver: SolverState
    guidance: Any = None
    cache: Any = None


@partial(model_jit, static_argnames=("guidance", "caching", "fewer"), donate_argnames="state")
def denoising_step(
    model: Denoiser,
    state: LoopState,
    step: Step,
    conditions: Any,
    scales: Any = (),
    keys: Key[Array, " B"] | None = None,
    hold: Hold | None = None,
    *,
    guidance: Guidance = PLAIN,
    caching: bool = False,
    fewer: bool = False,
) -> LoopState:
    """One step of any solver. The state's buffers are reused for the result. Without branches no model is run.

    Args:
      caching: call `cached_velocity`: with the state's cache, if there is one.
      fewer: `conditions` are of more branches than guidance has, which are the first ones.
    """
    before, between, after = keys_of(keys, step.number)
    solver = state.solver
    if hold is not None:
        solver = solver._replace(sample=hold.before(solver.sample, step, before))
    if fewer:
        conditions = cast(BranchingDenoiser, model).first_rows(conditions, len(solver.sample) * guidance.branches)
    velocities, cache = [], state.cache
    if guidance.branches:
        velocities, cache = _velocities(model, solver.sample, step.timestep, conditions, cache, guidance, caching)
    velocity, guided = guidance.combine(velocities, scales, state.guidance)
    solver = advance(solver, velocity, step.coefficients, between)
    if hold is not None:
        solver = solver._replace(sample=hold.after(solver.sample, step, after))
    solver, guided = jax.tree.map(model.layout.constrain, (solver, guided))
    return LoopState(solver, guided, cache)


def keys_of(keys: Key[Array, " B"] | None, number: Int[Array | np.ndarray, ""]) -> Sequence[Key[Array, " B"] | None]:
    """Of a step before the model is called, of its solver, and behind it: what it draws for a sample depends on no
    other."""
    if keys is None:
        return [None] * 3
    return list(jax.vmap(lambda key: jax.random.split(jax.random.fold_in(key, number), 3), out_axes=1)(keys))


def _velocities(
    model: Any, latents: Latents, timestep, conditions, cache: Any, guidance: Guidance, caching: bool
) -> tuple[list[Velocity], Any]:
    """Of every branch, as one batch."""
    constrain, rest = model.layout.constrain, [None] * (latents.ndim - 1)
    batch = constrain(jnp.concatenate([latents] * guidance.branches), "batch", *rest)
    inputs = batch, jnp.full((batch.shape[0],), timestep, jnp.float32), conditions
    velocity, cache = model.cached_velocity(*inputs, cache) if caching else (model.velocity(*inputs), None)
    return jnp.split(constrain(velocity, None, *rest), guidance.branches), cache


def denoise(
    model: Denoiser,
    noise: Latents,
    conditions: Any,
    *,
    solver: SolverName,
    schedule: Schedule,
    guidance: Guidance = PLAIN,
    scales: Any = (),
    keys: Key[Array, " B"] | None = None,
    hold: Hold | None = None,
    computed: Sequence[Computed] | None = None,
    on_step: Callable[[int, int], None] = lambda index, count: None,
) -> Latents:
    """Walk the schedule from noise to latents.

    Args:
      conditions: of `model.prepare`, for all branches of `guidance`.
      scales: of `guidance`; numbers.
      keys: of what is random on the way, one for each sample: where the solver or `hold` asks for them.
      hold: what overwrites parts of the latents.
      computed: what each step computes; None: everything. `ends` takes a `CachingDenoiser`, `first` a
        `BranchingDenoiser`. A program is compiled for each kind.
      on_step: called with a step's index and their number when it is done. What it raises ends the walk; `noise` and
        `conditions` stay as they were.
    """
    steps = steps_of(solver, schedule)
    walk = Walk(guidance, computed or everything(len(steps)))
    if len(walk.computed) != len(steps):
        raise ValueError(f"computed: one for each of {len(steps)} steps")
    caching, scales = "ends" in walk.computed, jax.tree.map(np.float32, scales)
    # Where later states will be, which is whole on every device: jit compiles once more for another place.
    place = model.layout.sharding() or jax.tree.leaves((conditions, jnp.asarray(noise)))[0].sharding
    state = LoopState(*jax.device_put((start(noise), walk.start(noise)), place))
    every = zip(steps, walk.computed, walk.ahead(schedule.sigmas[:-1].tolist()), strict=True)
    for index, (step, kind, ahead) in enumerate(every):
        if kind == "all":
            state = state._replace(cache=None)
        how: Any = dict(guidance=walk.guided(kind), caching=caching, fewer=kind == "first" and guidance.branches > 1)
        given = None if kind == "none" else conditions
        state = denoising_step(model, state, step, given, walk.scales(scales, ahead), keys, hold, **how)
        jax.block_until_ready(state.solver.sample)
        on_step(index, len(steps))
    return state.solver.sample
