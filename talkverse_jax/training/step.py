"""The two programs of training: the gradients of a batch, and the update they add up to.

The gradient is that of sum(weight * loss) over all samples, divided by sum(weight) when the update is made: however
samples are shared out over devices and batches, each counts the same.
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from talkverse_jax.core import tree
from talkverse_jax.core.compilation import model_jit
from talkverse_jax.diffusion import loss as flow
from talkverse_jax.families.talkverse.model import TalkVerse
from talkverse_jax.models.wan.embeddings import PatchEmbedding
from talkverse_jax.models.wan.linear import Adapter
from talkverse_jax.training.batch import TrainingBatch
from talkverse_jax.training.state import Network, TrainState
from talkverse_jax.training.strategy import GROUPS, Group


class Sums(NamedTuple):
    """What the batches of an update add up to; float32."""

    gradients: tree.Flat
    loss: Float[Array, ""]
    weight: Float[Array, ""]


class Samples(NamedTuple):
    """What is known of a batch's samples; of a slot without one the weight is 0."""

    loss: Float[Array, " B"]
    timestep: Int[Array, " B"]
    weight: Float[Array, " B"]


class Metrics(NamedTuple):
    """What is known of an update.

    Attributes:
      norms: of the gradient of each group, before it is clipped.
      applied: the update was made; it is not where the loss or a norm is not finite or a norm above the limit.
    """

    loss: Float[Array, ""]
    norms: dict[Group, Float[Array, ""]]
    applied: Bool[Array, ""]


@dataclasses.dataclass(frozen=True)
class Objective:
    """What is minimised.

    Attributes:
      roi: weigh face and body.
      seed: of everything random.
    """

    roi: bool = False
    dropouts: flow.Dropouts = flow.Dropouts()
    seed: int = 0


class TrainingStep:
    """The compiled programs for a network, an optimizer and an objective.

    Args:
      state: any state (shapes will do) whose shardings those of all later ones are.
      ema_decay: of the parameters' running average.
    """

    def __init__(
        self,
        network: Network,
        optimizer: optax.GradientTransformation,
        objective: Objective,
        state: TrainState,
        ema_decay: float = 0.0,
    ):
        self.network, self.optimizer, self.objective = network, optimizer, objective
        self.ema_decay = ema_decay
        self._shardings = jax.tree.map(lambda leaf: leaf.sharding, state)
        whole = self._shardings.step
        sums = Sums(self._shardings.params, whole, whole)
        metrics = Metrics(whole, dict.fromkeys(self._present(), whole), whole)
        self._add = model_jit(self._add_gradients, donate_argnames="sums", out_shardings=(sums, whole))
        self._update = model_jit(self._apply, donate_argnames="state", out_shardings=(self._shardings, metrics))

    def programs(self, platform: str) -> tuple[Callable, Callable]:
        """Both jitted functions, for devices of a platform that need not be there."""
        return self._add.jitted(platform), self._update.jitted(platform)

    def add_gradients(self, params: tree.Flat, batch: TrainingBatch, sums: Sums | None = None) -> tuple[Sums, Samples]:
        """The gradients of a batch, added to those of others, whose buffers are reused."""
        return self._add(params, self.network.frozen, batch, sums=sums)

    def update(self, state: TrainState, sums: Sums, limit: float = float("inf")) -> tuple[TrainState, Metrics]:
        """The state after an update, in the buffers of the old one.

        Args:
          limit: the largest norm of a group's gradient that is believed.
        """
        return self._update(state=state, sums=sums, limit=jnp.float32(limit))

    def _present(self) -> list[Group]:
        return [group for group in GROUPS if group in self.network.groups.values()]

    def _add_gradients(self, params, frozen, batch: TrainingBatch, sums: Sums | None):
        (loss, samples), gradients = jax.value_and_grad(self._loss, has_aux=True)(params, frozen, batch)
        new = Sums(gradients, loss, batch.weight.sum())
        return (new if sums is None else jax.tree.map(jnp.add, sums, new)), samples

    def _loss(self, params, frozen, batch: TrainingBatch) -> tuple[Float[Array, ""], Samples]:
        model = tree.join(self.network.graphdef, params, frozen)
        lower_precision(model)
        draw = flow.draw(self.objective.seed, batch.ids, batch.target.shape[1:], self.objective.dropouts)
        losses = batch_losses(model, batch, draw, self.objective.roi)
        # a slot without a sample holds zeros, and its loss may be anything
        losses = jnp.where(batch.weight > 0, losses, 0)
        return jnp.sum(batch.weight * losses), Samples(losses, draw.timestep, batch.weight)

    def _apply(self, state: TrainState, sums: Sums, limit) -> tuple[TrainState, Metrics]:
        weight = jnp.where(sums.weight > 0, sums.weight, 1)  # without any sample the gradient is zero
        gradients = jax.tree.map(lambda x: x / weight, sums.gradients)
        loss, norms = sums.loss / weight, {}
        for group in self._present():
            members = [x for key, x in gradients.items() if self.network.groups[key] == group]
            norms[group] = optax.global_norm(members)
        both = jnp.stack([loss, *norms.values()])
        applied = jnp.isfinite(both).all() & (both[1:] <= limit).all()
        updates, optimizer = self.optimizer.update(gradients, state.optimizer, state.params)
        params, ema = optax.apply_updates(state.params, updates), state.ema
        if ema is not None:
            ema = optax.incremental_update(params, ema, 1 - self.ema_decay)
        new = TrainState(params, optimizer, state.step + 1, ema)
        return jax.tree.map(lambda a, b: jnp.where(applied, a, b), new, state), Metrics(loss, norms, applied)


def lower_precision(model: nnx.Module) -> None:
    """Within jit: turn the parameters of matrix products to the dtype of these, all at once and before their parts
    are gathered from other devices; gradients come back in it too."""
    for _, node in nnx.iter_graph(model):
        if isinstance(node, (nnx.Linear, PatchEmbedding, Adapter)) and node.dtype is not None:
            for name, value in list(vars(node).items()):
                if isinstance(value, nnx.Param):
                    setattr(node, name, nnx.Param(value.get_value().astype(node.dtype)))


def batch_losses(model: TalkVerse, batch: TrainingBatch, draw: flow.Draw, roi: bool) -> Float[Array, " B"]:
    """The loss of each sample, given what is random about it."""
    drop = draw.drop
    text = jnp.where(drop.text[:, None, None], batch.null_text, batch.text)
    audio = _unless(drop.audio, batch.audio)
    reference, motion = _unless(drop.reference, batch.reference), _unless(drop.motion, batch.motion)
    constrain = lambda x: model.layout.constrain(x, "batch", *[None] * (x.ndim - 1))  # noqa: E731
    data, noise = constrain(batch.target.astype(jnp.float32)), constrain(draw.noise)
    conditions = model.prepare(text, audio, reference, motion)
    x = constrain(flow.noisy(data, noise, draw.timestep))
    velocity = model.velocity(x, draw.timestep.astype(jnp.float32), conditions)
    weights = flow.roi_weights(batch.face, batch.body) if roi else None
    return flow.sample_losses(velocity, data, noise, weights)


def _unless(drop: Bool[Array, " B"], x: Float[Array, "B ..."]) -> Float[Array, "B ..."]:
    return jnp.where(drop.reshape(-1, *[1] * (x.ndim - 1)), 0, x)
