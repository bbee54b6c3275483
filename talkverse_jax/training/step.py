"""The programs of training: the gradients of a batch, and the update they add up to.

    step = TrainingStep(
        networks={"generator": Trained(network, optimizer, ema_decay=0.999), "critic": Trained(other, its_optimizer)},
        frozen={"teacher": teacher},
        phases=[Phase("critic", critic_loss, repeats=5), Phase("generator", generator_loss)],
        states=states,
    )
    phase = step.phase_of(updates made before)
    sums, samples = step.add_gradients(phase, states, batch)
    states, metrics = step.update(phase, states, sums)

An update changes one network; a phase is updates of one network by one loss, and phases follow each other in turns.
The gradient is that of sum(weight * loss) over all samples, divided by sum(weight) when the update is made: however
samples are shared out over devices and batches, each counts the same.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jaxtyping import Array, Bool, Float, Shaped

from talkverse_jax.core import tree
from talkverse_jax.core.compilation import model_jit
from talkverse_jax.diffusion.loss import sample_keys
from talkverse_jax.pipeline.training import Loss, TrainingInputs
from talkverse_jax.training.network import Network, lower_precision
from talkverse_jax.training.state import States, TrainState
from talkverse_jax.training.strategy import GROUPS, Group


class Trained(NamedTuple):
    """A network that is trained.

    Attributes:
      ema_decay: of the parameters' running average; 0: none is kept.
    """

    network: Network
    optimizer: optax.GradientTransformation
    ema_decay: float = 0.0


class Phase(NamedTuple):
    """Updates of one network, one after the other.

    Attributes:
      network: its name; all others stay as they are meanwhile.
      repeats: how many updates, before the next phase has its turn.
    """

    network: str
    loss: Loss
    repeats: int = 1


class Sums(NamedTuple):
    """What the batches of an update add up to; float32."""

    gradients: tree.Flat
    loss: Float[Array, ""]
    weight: Float[Array, ""]


class Samples(NamedTuple):
    """What is known of a batch's samples; of a slot without one the weight is 0.

    Attributes:
      known: what else the loss told of each.
    """

    loss: Float[Array, " B"]
    weight: Float[Array, " B"]
    known: dict[str, Shaped[Array, " B"]]


class Metrics(NamedTuple):
    """What is known of an update.

    Attributes:
      norms: of the gradient of each group, before it is clipped.
      applied: the update was made; it is not where the loss or a norm is not finite or a norm above the limit.
    """

    loss: Float[Array, ""]
    norms: dict[Group, Float[Array, ""]]
    applied: Bool[Array, ""]


class TrainingStep:
    """The compiled programs: of each phase the gradients, of each network the update.

    Args:
      networks: those that phases train, by the names that losses find them under.
      frozen: those that losses need besides.
      phases: in turns.
      states: of `networks`, any (shapes will do) whose shardings those of all later ones are.
      seed: of everything random.
    """

    def __init__(
        self,
        networks: Mapping[str, Trained],
        phases: Sequence[Phase],
        states: States,
        *,
        frozen: Mapping[str, Network] | None = None,
        seed: int = 0,
    ):
        self.networks, self.phases, self.seed = dict(networks), tuple(phases), seed
        self._all = {name: trained.network for name, trained in networks.items()} | dict(frozen or {})
        self._shardings = {name: jax.tree.map(lambda leaf: leaf.sharding, state) for name, state in states.items()}
        self._gradients: list[Any] = [self._gradient_program(phase) for phase in self.phases]
        self._updates: dict[str, Any] = {name: self._update_program(name) for name in self.networks}

    def phase_of(self, update: int) -> int:
        """The number of the phase of an update, of which so many were made before."""
        place = update % sum(phase.repeats for phase in self.phases)
        for number, phase in enumerate(self.phases):
            place -= phase.repeats
            if place < 0:
                return number
        raise ValueError("no phase has updates")

    def made_before(self, update: int) -> int:
        """How many updates of its network were made before an update."""
        name = self.phases[self.phase_of(update)].network
        turns = [phase.network for phase in self.phases for _ in range(phase.repeats)]
        whole, place = divmod(update, len(turns))
        return whole * turns.count(name) + turns[:place].count(name)

    @property
    def frozen(self) -> dict[str, nnx.State]:
        """What no update changes, of all networks by name."""
        return {name: network.frozen for name, network in self._all.items()}

    def programs(self, platform: str, phase: int = 0) -> tuple[Callable, Callable]:
        """Both jitted functions of a phase, for devices of a platform that need not be there: of parameters by
        network, `frozen`, a batch and `sums`; and of `state`, `sums` and `limit`."""
        update = self._updates[self.phases[phase].network]
        return self._gradients[phase].jitted(platform), update.jitted(platform)

    def add_gradients(
        self, phase: int, states: States, batch: TrainingInputs, sums: Sums | None = None
    ) -> tuple[Sums, Samples]:
        """The gradients of a batch, added to those of others, whose buffers are reused."""
        params = {name: state.params for name, state in states.items()}
        return self._gradients[phase](params, self.frozen, batch, sums=sums)

    def update(self, phase: int, states: States, sums: Sums, limit: float = float("inf")) -> tuple[States, Metrics]:
        """The states after an update; that of the phase's network lies in the buffers of the old one.

        Args:
          limit: the largest norm of a group's gradient that is believed.
        """
        name = self.phases[phase].network
        state, metrics = self._updates[name](state=states[name], sums=sums, limit=jnp.float32(limit))
        return states | {name: state}, metrics

    def _gradient_program(self, phase: Phase):
        name = phase.network

        def loss(trained: tree.Flat, params: dict[str, tree.Flat], frozen: dict[str, nnx.State], batch: Any):
            models = {
                each: tree.join(network.graphdef, trained if each == name else params.get(each, {}), frozen[each])
                for each, network in self._all.items()
            }
            for model in models.values():
                lower_precision(model)
            losses, known = phase.loss(models, batch, sample_keys(self.seed, batch.ids))
            # a slot without a sample holds zeros, and its loss may be anything
            losses = jnp.where(batch.weight > 0, losses, 0)
            return jnp.sum(batch.weight * losses), Samples(losses, batch.weight, known)

        def add_gradients(params, frozen, batch, sums: Sums | None):
            value_and_gradients = jax.value_and_grad(loss, has_aux=True)
            (value, samples), gradients = value_and_gradients(params[name], params, frozen, batch)
            new = Sums(gradients, value, batch.weight.sum())
            return (new if sums is None else jax.tree.map(jnp.add, sums, new)), samples

        whole = self._shardings[name].step
        sums = Sums(self._shardings[name].params, whole, whole)
        kind = self._all[name].layout.device_kind
        return model_jit(add_gradients, shares_weights=kind, donate_argnames="sums", out_shardings=(sums, whole))

    def _update_program(self, name: str):
        network, optimizer, ema_decay = self.networks[name]
        present: list[Group] = [group for group in GROUPS if group in network.groups.values()]

        def update(state: TrainState, sums: Sums, limit) -> tuple[TrainState, Metrics]:
            weight = jnp.where(sums.weight > 0, sums.weight, 1)  # without any sample the gradient is zero
            gradients = jax.tree.map(lambda x: x / weight, sums.gradients)
            loss = sums.loss / weight
            norms: dict[Group, Any] = {}
            for group in present:
                norms[group] = optax.global_norm([x for key, x in gradients.items() if network.groups[key] == group])
            both = jnp.stack([loss, *norms.values()])
            applied = jnp.isfinite(both).all() & (both[1:] <= limit).all()
            changes, moments = optimizer.update(gradients, state.optimizer, state.params)
            params: Any = optax.apply_updates(state.params, changes)
            ema: Any = state.ema
            if ema is not None:
                ema = optax.incremental_update(params, ema, 1 - ema_decay)
            new = TrainState(params, moments, state.step + 1, ema)
            return jax.tree.map(lambda a, b: jnp.where(applied, a, b), new, state), Metrics(loss, norms, applied)

        whole = self._shardings[name].step
        norms: dict[Any, Any] = dict.fromkeys(present, whole)
        metrics = Metrics(whole, norms, whole)
        return model_jit(update, donate_argnames="state", out_shardings=(self._shardings[name], metrics))
