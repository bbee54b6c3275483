"""What an update changes, and how it begins."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Sharding
from jaxtyping import Array, Int

from talkverse_jax.core import tree


class TrainState(NamedTuple):
    """What updates of a network change. Arrays are float32; those of stacked layers are stacked.

    Attributes:
      params: the trained parameters by key (see `Network`).
      step: updates done of this network.
      ema: their running average, or None.
    """

    params: tree.Flat
    optimizer: optax.OptState
    step: Int[Array, ""]
    ema: tree.Flat | None


States = dict[str, TrainState]  # of all networks that are trained, by name


def stored(states: States) -> Any:
    """What a checkpoint holds of them: of a single network its state, whatever its name."""
    return states if len(states) > 1 else next(iter(states.values()))


def from_stored(found: Any, names: Iterable[str]) -> States:
    """The states of these networks, as `stored` gave them."""
    first, *others = names
    return dict(found) if others else {first: found}


def start(params: tree.Flat, optimizer: optax.GradientTransformation, ema: bool) -> TrainState:
    """The state before the first update."""
    abstract_state = start_abstract(params, optimizer, ema)
    begin = jax.jit(optimizer.init, out_shardings=jax.tree.map(lambda leaf: leaf.sharding, abstract_state.optimizer))
    copies = jax.tree.map(jnp.copy, params) if ema else None
    step = jax.device_put(np.int32(0), abstract_state.step.sharding)
    return TrainState(params, begin(params), step, copies)


def start_abstract(params: tree.Flat, optimizer: optax.GradientTransformation, ema: bool) -> TrainState:
    """Shapes, dtypes and shardings of the state: moments lie where their parameters do, and what is smaller than these
    (Adafactor's rows and columns) is whole on every device."""
    params = {key: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding) for key, x in params.items()}
    whole = _replicated(next(iter(params.values())).sharding)

    def placed(path: tuple, leaf: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
        param = params.get(getattr(path[-1], "key", ""))  # a moment stands under its parameter's key
        lies = param.sharding if param and param.shape == leaf.shape else whole
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=lies)

    moments = jax.tree.map_with_path(placed, jax.eval_shape(optimizer.init, params))
    step: Any = jax.ShapeDtypeStruct((), jnp.int32, sharding=whole)
    return TrainState(params, moments, step, params if ema else None)


def _replicated(sharding: Sharding) -> Sharding:
    if isinstance(sharding, jax.sharding.NamedSharding):
        return jax.sharding.NamedSharding(sharding.mesh, jax.sharding.PartitionSpec())
    return sharding
