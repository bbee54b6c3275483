"""Roll-outs of a student, and the two losses of distribution matching over them.

A window of data holds some clips. The student makes the first ones as `sample` does, each behind those that it made
before, and no gradient passes through them. Of the last one it takes some of its steps, and the next one, whose data
are the result, has the gradient. How many clips, and which step, is drawn for each batch. Teacher and critic see the
same clip behind what is really before it in the data, and so tell what should be there, whatever the student has
made of the past.

Shapes: B samples, F latent frames, h w latent grid, C latent channels.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int, Key

from talkverse_jax.diffusion import loss as flow
from talkverse_jax.diffusion.denoise import Denoiser, Hold, Step, keys_of, steps_of
from talkverse_jax.diffusion.distil import Latents, ScoreLevels, TeacherScales, pull, pulled
from talkverse_jax.diffusion.flow import NUM_TRAIN_TIMESTEPS, make_schedule
from talkverse_jax.diffusion.guidance import Part
from talkverse_jax.diffusion.solvers import StepCoefficients, advance, fresh_noise, start

GENERATOR, CRITIC, TEACHER = "generator", "critic", "teacher"  # the networks, by name

_COUNT, _EXIT, _LEVEL, _NOISE, _CLIPS = range(5)  # of what is drawn


class Clips(Protocol):
    """The clips of a family's windows. A clip's number may be traced.

    Attributes:
      count: how many a window holds.
    """

    @property
    def count(self) -> int: ...

    def shape(self, batch: Any) -> tuple[int, int, int, int]:
        """F h w C of a clip."""
        ...

    def before(self, batch: Any, clip: Int[Array, ""] | int) -> Any:
        """What is really before a clip: a pytree."""
        ...

    def after(self, batch: Any, clip: Int[Array, ""], before: Any, latents: Latents) -> Any:
        """What is before the next clip, where a student made this one."""
        ...

    def conditions(self, model: Any, batch: Any, clip: Int[Array, ""] | int, before: Any, parts: Sequence[Part]) -> Any:
        """The clip's conditions: rows of all samples' first part, then of their second ..."""
        ...

    def hold(self, batch: Any, before: Any) -> Hold | None:
        """What overwrites parts of a clip's latents."""
        ...

    def weights(self, batch: Any) -> Float[Array, "B F h w"] | None:
        """Which places count; None: all alike."""
        ...


class DistilRecipe(NamedTuple):
    """The numbers of a distillation.

    Attributes:
      steps, shift: of the student's sampling.
      levels: at which it is judged.
      scales: of the teacher.
    """

    steps: int
    shift: float
    levels: ScoreLevels
    scales: TeacherScales

    def rolled(self, clips: int) -> float:
        """Passes of the student without gradient that a roll-out over up to so many clips takes in the mean."""
        return (clips - 1) / 2 * self.steps + (self.steps - 1) / 2


class Rolled(NamedTuple):
    """A clip that a student made.

    Attributes:
      clip: its number.
      exit: the step that made it.
    """

    latents: Latents
    clip: Int[Array, ""]
    exit: Int[Array, ""]


def roll_out(model: Denoiser, clips: Clips, recipe: DistilRecipe, batch: Any, draw: Key[Array, " B"]) -> Rolled:
    """Clips of a student; the gradient passes through one step of the last one."""
    still, shape = _still(model), clips.shape(batch)
    schedule = make_schedule("renoise", recipe.steps, recipe.shift)
    steps = jax.tree.map(lambda *rows: jnp.stack(rows), *steps_of("renoise", schedule))
    drawn = lambda of, most: jax.random.randint(jax.random.fold_in(draw[0], of), (), 0, most)  # noqa: E731  # of a batch
    last, exit = drawn(_COUNT, clips.count), drawn(_EXIT, recipe.steps)

    def begun(clip: Int[Array, ""]) -> tuple[Latents, Key[Array, " B"]]:
        keys = _of(_of(draw, _CLIPS), clip)
        return _constrained(model, fresh_noise(_of(keys, 0), (len(keys), *shape))), _of(keys, 1)

    def walk(clip: Int[Array, ""], before: Any, count: Int[Array, ""] | int) -> Latents:
        noise, keys = begun(clip)
        conditions, hold = clips.conditions(still, batch, clip, before, ("all",)), clips.hold(batch, before)
        step = lambda i, x: _stepped(still, x, _at(steps, i), conditions, keys, hold)  # noqa: E731
        return jax.lax.fori_loop(0, count, step, noise)

    def made(clip: Int[Array, ""], before: Any) -> Any:
        return clips.after(batch, clip, before, walk(clip, before, recipe.steps))

    before = clips.before(batch, 0)
    if clips.count > 1:
        before = jax.lax.stop_gradient(jax.lax.fori_loop(0, last, made, before))
    x = jax.lax.stop_gradient(walk(last, before, exit))
    conditions = clips.conditions(model, batch, last, before, ("all",))
    whole = _at(steps, exit)
    whole = whole._replace(coefficients=_to_data(whole.coefficients))
    latents = _stepped(model, x, whole, conditions, begun(last)[1], clips.hold(batch, before))
    return Rolled(latents, last, exit)


def _stepped(model: Any, x: Latents, step: Step, conditions: Any, keys: Key[Array, " B"], hold: Hold | None) -> Latents:
    """One of the student's steps, as `denoising_step` makes it."""
    before, between, after = keys_of(keys, step.number)
    x = x if hold is None else hold.before(x, step, before)
    velocity = model.velocity(x, jnp.full((len(x),), step.timestep, jnp.float32), conditions)
    x = advance(start(x), velocity, step.coefficients, between).sample
    return _constrained(model, x if hold is None else hold.after(x, step, after))


def _to_data(row: StepCoefficients) -> StepCoefficients:
    """The step that adds no noise again."""
    none = jnp.zeros_like(row.sigma)
    return row._replace(following=none, predictor=jnp.array([0.0, 1.0, 0.0]), noise=none)


@dataclasses.dataclass(frozen=True)
class _Matching:
    """What both losses have in common."""

    clips: Clips
    recipe: DistilRecipe

    def _noised(
        self, model: Any, batch: Any, made: Latents, before: Any, draw: Any
    ) -> tuple[Latents, Latents, Float[Array, " B"]]:
        """(the clip at a level, the noise, the levels)."""
        levels = self.recipe.levels.draw(_of(draw, _LEVEL))
        noise, sigma = fresh_noise(_of(draw, _NOISE), made.shape), levels[:, None, None, None, None]
        x = (1 - sigma) * made + sigma * noise
        if (hold := self.clips.hold(batch, before)) is not None:
            row = StepCoefficients(sigma, sigma, jnp.zeros(5), jnp.zeros(3))
            x = hold.before(x, Step(jnp.int32(0), sigma, row), _of(draw, _NOISE))
        return _constrained(model, x), noise, levels

    def _known(self, rolled: Rolled, levels: Float[Array, " B"]) -> dict[str, Array]:
        every = lambda x: jnp.broadcast_to(x, levels.shape)  # noqa: E731
        timestep = (NUM_TRAIN_TIMESTEPS * levels).astype(jnp.int32)
        return {"timestep": timestep, "clips": every(rolled.clip + 1), "exit": every(rolled.exit + 1)}


@dataclasses.dataclass(frozen=True)
class CriticLoss(_Matching):
    """Flow matching on what the student makes."""

    @property
    def passes(self) -> float:
        """Those without gradient, in the mean."""
        return self.recipe.rolled(self.clips.count) + 1

    def __call__(
        self, models: Mapping[str, Any], batch: Any, draw: Key[Array, " B"]
    ) -> tuple[Float[Array, " B"], dict[str, Array]]:
        critic, clips = models[CRITIC], self.clips
        rolled = roll_out(_still(models[GENERATOR]), clips, self.recipe, batch, draw)
        made, before = jax.lax.stop_gradient(rolled.latents), clips.before(batch, rolled.clip)
        x, noise, levels = self._noised(critic, batch, made, before, draw)
        conditions = clips.conditions(critic, batch, rolled.clip, before, ("all",))
        velocity = critic.velocity(x, NUM_TRAIN_TIMESTEPS * levels, conditions)
        losses = flow.sample_losses(velocity, made, noise, clips.weights(batch))
        return losses, self._known(rolled, levels)


@dataclasses.dataclass(frozen=True)
class GeneratorLoss(_Matching):
    """The pull from what the critic sees to what the teacher sees."""

    @property
    def passes(self) -> float:
        """Those without gradient, in the mean."""
        return self.recipe.rolled(self.clips.count) + 1 + len(self.recipe.scales.parts)

    def __call__(
        self, models: Mapping[str, Any], batch: Any, draw: Key[Array, " B"]
    ) -> tuple[Float[Array, " B"], dict[str, Array]]:
        clips, scales = self.clips, self.recipe.scales
        rolled = roll_out(models[GENERATOR], clips, self.recipe, batch, draw)
        made, before = jax.lax.stop_gradient(rolled.latents), clips.before(batch, rolled.clip)
        x, _, levels = self._noised(models[GENERATOR], batch, made, before, draw)
        sigma = levels[:, None, None, None, None]

        def seen(model: Any, parts: Sequence[Part]) -> list[Latents]:
            """The velocities that a network has for each branch, as one batch."""
            still, times = _still(model), len(parts)
            conditions = clips.conditions(still, batch, rolled.clip, before, parts)
            rows = _constrained(still, jnp.concatenate([x] * times))
            velocity = still.velocity(rows, jnp.tile(NUM_TRAIN_TIMESTEPS * levels, times), conditions)
            return jnp.split(velocity, times)

        [critic] = seen(models[CRITIC], ("all",))
        teacher = scales.guided(seen(models[TEACHER], scales.parts))
        gradient = pull(made, x - sigma * critic, x - sigma * teacher)
        losses = pulled(rolled.latents, gradient, clips.weights(batch))
        return losses, self._known(rolled, levels)


def _still(model: Any) -> Any:
    """The model without gradients."""
    graphdef, state = nnx.split(model)
    return nnx.merge(graphdef, jax.lax.stop_gradient(state))


def _of(keys: Key[Array, " B"], number: Int[Array, ""] | int) -> Key[Array, " B"]:
    """Keys of their own for something that is drawn."""
    return jax.vmap(lambda key: jax.random.fold_in(key, number))(keys)


def _at(steps: Step, i: Int[Array, ""] | int) -> Step:
    return jax.tree.map(lambda rows: rows[i], steps)


def _constrained(model: Any, x: Latents) -> Latents:
    return model.layout.constrain(x, "batch", *[None] * (x.ndim - 1))
