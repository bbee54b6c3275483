"""The networks of an objective, with their values or of shapes alone, and the states that updates begin with."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from talkverse_jax.core import tree
from talkverse_jax.sharding.layout import Layout
from talkverse_jax.training.network import Network, abstract, divide, kept, load_network
from talkverse_jax.training.objective import Objective, Role
from talkverse_jax.training.state import States, start, start_abstract
from talkverse_jax.training.step import Trained, TrainingStep
from talkverse_jax.weights import store
from talkverse_jax.weights.component import Component


class Networks(NamedTuple):
    """All of them, by name.

    Attributes:
      trained, frozen: those that updates change, and the others.
      params: of the trained ones.
    """

    trained: dict[str, Trained]
    frozen: dict[str, Network]
    params: dict[str, tree.Flat]

    @property
    def states(self) -> States:
        """Of shapes and shardings alone."""
        return {name: start_abstract(self.params[name], *_how(each)) for name, each in self.trained.items()}

    def begin(self) -> States:
        """The states before the first update."""
        return {name: start(self.params[name], *_how(each)) for name, each in self.trained.items()}

    def step(self, objective: Objective, seed: int) -> TrainingStep:
        """The programs."""
        return TrainingStep(self.trained, objective.phases, self.states, frozen=self.frozen, seed=seed)


def load(objective: Objective, component: Component, layout: Layout) -> Networks:
    """They, with the values that they begin with.

    Raises:
      UserError: weights cannot be used.
    """
    found = Networks({}, {}, {})
    for name, role in objective.roles.items():
        if role.rule is None:
            found.frozen[name] = _loaded(role, component, layout)
            continue
        network, params = load_network(role.weights, component, role.settings, layout, role.start)
        _add(found, name, role, network, params)
    return found


def of_shapes(objective: Objective, component: Component, config: Any, layout: Layout) -> Networks:
    """They, of shapes and shardings alone.

    Args:
      layout: its devices need not be there.
    """
    found = Networks({}, {}, {})
    for name, role in objective.roles.items():
        settings, place = role.settings, layout.parameter_sharding(component.axes)
        trains = settings.strategy.trains if role.rule else lambda _: False
        module = abstract(component, config, settings, layout, adapters=role.rule is not None)
        parameters = {
            path: jax.ShapeDtypeStruct(
                leaf.shape,
                jnp.dtype("float32" if trains(path) else settings.dtype),
                sharding=place(path, leaf.shape),
            )
            for path, leaf in tree.abstract_parameters(module).items()
        }
        module = tree.with_parameters(module, parameters)
        if role.rule is None:
            found.frozen[name] = kept(module, layout)
        else:
            _add(found, name, role, *divide(module, settings.strategy, layout))
    return found


def _add(found: Networks, name: str, role: Role, network: Network, params: tree.Flat) -> None:
    assert role.rule is not None, "it is trained"
    found.trained[name] = Trained(network, role.rule(network.groups), role.ema_decay)
    found.params[name] = params


def _loaded(role: Role, component: Component, layout: Layout) -> Network:
    settings = role.settings
    how: Any = dict(kernel=settings.kernel, scan=True, part_at=settings.strategy.first_block)  # as `abstract`
    return kept(store.load_module(role.weights, component, dtype=settings.dtype, layout=layout, **how), layout)


def _how(trained: Trained) -> tuple[Any, bool]:
    return trained.optimizer, trained.ema_decay > 0
