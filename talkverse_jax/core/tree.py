"""Parameters by path: a module's parameters as a flat dict `"blocks/0/self_attn/q/kernel" -> leaf`, and back.

Stacked layers (see stack.py) appear one by one, each under its own name.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import NamedSharding, PartitionSpec, Sharding, SingleDeviceSharding

from talkverse_jax.core import heap
from talkverse_jax.core.stack import HOST, Stack

Flat = dict[str, Any]
Model = TypeVar("Model", bound=nnx.Module)


def abstract(model_type: type[Model], config: Any, **kwargs: Any) -> Model:
    """The model with shapes in place of arrays.

    Args:
      config, kwargs: what the model is made from; hashable.
    """
    return nnx.merge(*_traced(model_type, config, **kwargs))


@functools.lru_cache(maxsize=8)
def _traced(model_type: type[nnx.Module], config: Any, **kwargs: Any) -> tuple[nnx.GraphDef, nnx.State]:
    make: Any = model_type  # what a model is made from, `nnx.Module` does not say
    return nnx.split(nnx.eval_shape(lambda: make(config, rngs=_OneKey(), **kwargs)))


class _OneKey:
    """Stands for `nnx.Rngs` where shapes alone are asked for: to trace its counters takes 10.5 s for the published
    transformer, without them 0.6 s."""

    def params(self) -> jax.Array:
        return jax.random.key(0)


def parameters(graph: nnx.Module) -> Flat:
    """Every parameter (an array, or a `jax.ShapeDtypeStruct`) by path; those of stacked layers are slices."""
    found: Flat = {}
    for names, leaf in _entries(graph):
        if len(names) == 1:
            found[names[0]] = leaf
        elif isinstance(leaf, jax.ShapeDtypeStruct):
            found |= dict.fromkeys(names, _first_of(leaf))
        else:
            found |= {name: leaf[i] for i, name in enumerate(names)}
    return found


def abstract_parameters(graph: nnx.Module) -> Flat:
    """Shapes and dtypes of a module's parameters by path; works on an abstract module too."""
    found: Flat = {}
    for names, leaf in _entries(graph):
        shape = leaf.shape if len(names) == 1 else leaf.shape[1:]
        found |= dict.fromkeys(names, jax.ShapeDtypeStruct(shape, leaf.dtype))
    return found


_ROWS = 16  # of a layer's matrix, that are worth a place in host memory


def is_on_host(graph: nnx.Module) -> Callable[[tuple, Any], bool]:
    """A filter of NNX for what a module keeps in host memory: of layers that lie there (`Stack.on_host`) all but
    vectors and the few of a modulation, which are small, and which XLA:TPU (libtpu 0.0.52) cannot cut out of a stack
    there."""
    stacks = {path: node for path, node in nnx.iter_graph(graph) if isinstance(node, Stack) and node.on_host}

    def kept(path: tuple, variable: Any) -> bool:
        depth = next((depth for depth in range(len(path)) if path[:depth] in stacks), None)
        if depth is None:
            return False
        stacked = len(stacks[path[:depth]].names) > 1
        return math.prod(variable.get_value().shape[stacked:-1]) >= _ROWS

    return kept


def paths_on_host(graph: nnx.Module) -> set[str]:
    """The paths of the parameters that a module keeps in host memory."""
    kept, flat = is_on_host(graph), nnx.to_flat_state(nnx.state(graph, nnx.Param))
    return {
        name
        for (path, variable), (names, _) in zip(flat, _entries(graph), strict=True)
        if kept(path, variable)
        for name in names
    }


def with_parameters(graph: Model, parameters: Flat) -> Model:
    """The module with its parameters replaced by `parameters` (same paths), which is emptied: of what is stacked,
    only one parameter at a time is in memory twice. Nothing else is copied.

    Raises:
      KeyError: a path is missing or unknown. Loaders report that to the user before they come here.
    """
    graphdef, state = nnx.split(graph, nnx.Param)
    flat, entries = nnx.to_flat_state(state), _entries(graph)
    paths = {name for names, _ in entries for name in names}
    if paths != parameters.keys():
        raise KeyError(f"parameters differ from the module's: {sorted(paths ^ parameters.keys())[:5]}")
    new = [
        (path, variable.replace(_stacked([parameters.pop(name) for name in names])))
        for (path, variable), (names, _) in zip(flat, entries)
    ]
    return nnx.merge(graphdef, nnx.from_flat_state(new))


def divide(
    graph: nnx.Module, chosen: Callable[[str], bool]
) -> tuple[nnx.GraphDef, Flat, nnx.State, dict[str, tuple[str, ...]]]:
    """A module's parameters in two: those chosen by path, and the others.

    Returns:
      What `join` needs; the chosen parameters as they are stored, stacked ones whole, by a key; the others; and the
      paths that each key stands for.

    Raises:
      ValueError: of stacked layers some are chosen and some are not.
    """
    keys = {}
    for (path, _), (names, _) in zip(nnx.to_flat_state(nnx.state(graph, nnx.Param)), _entries(graph), strict=True):
        picked = {chosen(name) for name in names}
        if len(picked) > 1:
            raise ValueError(f"{names}: stacked, and not all of them are chosen")
        if picked == {True}:
            keys[path] = ("/".join(map(str, path)), tuple(names))
    graphdef, state, rest = nnx.split(graph, lambda path, _: path in keys, ...)
    values = {keys[path][0]: variable.get_value() for path, variable in nnx.to_flat_state(state)}
    return graphdef, values, rest, dict(keys.values())


def join(graphdef: nnx.GraphDef, values: Flat, rest: nnx.State) -> nnx.Module:
    """The module that `divide` took apart, with other values."""
    path = lambda key: tuple(int(part) if part.isdecimal() else part for part in key.split("/"))  # noqa: E731
    state = nnx.from_flat_state([(path(key), nnx.Param(value)) for key, value in values.items()])
    return nnx.merge(graphdef, state, rest)


def _entries(graph: nnx.Module) -> list[tuple[list[str], Any]]:
    """Every parameter leaf with its path, or with the paths of all layers that are stacked in it."""
    stacks = {path: node for path, node in nnx.iter_graph(graph) if isinstance(node, Stack)}
    entries = []
    for path, variable in nnx.to_flat_state(nnx.state(graph, nnx.Param)):
        names = ["/".join(map(str, path))]
        for depth in range(len(path)):
            if stack := stacks.get(path[:depth]):  # path[depth] is its `layers`
                rest = "/".join(map(str, path[depth + 1 :]))
                names = [f"{name}/{rest}" for name in stack.names]
        entries.append((names, variable.get_value()))
    return entries


def _first_of(stacked: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
    sharding = stacked.sharding
    if isinstance(sharding, NamedSharding):
        spec = PartitionSpec(*sharding.spec[1:])
        sharding = NamedSharding(sharding.mesh, spec, memory_kind=sharding.memory_kind)
    return jax.ShapeDtypeStruct(stacked.shape[1:], stacked.dtype, sharding=sharding)


def _stacked(leaves: list[Any]) -> Any:
    if len(leaves) == 1:
        return leaves[0]
    sharding = getattr(leaves[0], "sharding", None)
    if isinstance(sharding, NamedSharding):
        spec = PartitionSpec(None, *sharding.spec)
        sharding = NamedSharding(sharding.mesh, spec, memory_kind=sharding.memory_kind)
    if isinstance(leaves[0], jax.ShapeDtypeStruct):
        return jax.ShapeDtypeStruct((len(leaves), *leaves[0].shape), leaves[0].dtype, sharding=sharding)
    if sharding is not None and sharding.memory_kind == HOST:
        stacked = _stacked_on_host(leaves, sharding)
    else:
        stacked = _stack(sharding)(*leaves)
    jax.block_until_ready(stacked)  # or several parameters would be in memory twice
    leaves.clear()
    heap.give_back()
    return stacked


def _stacked_on_host(leaves: list[jax.Array], sharding: Sharding) -> jax.Array:
    """Each device's parts joined by the host: nothing passes through the devices' memory."""
    parts = [
        jax.device_put(
            np.stack([np.asarray(shard.data) for shard in shards]),
            SingleDeviceSharding(shards[0].device, memory_kind=HOST),
        )
        for shards in zip(*(leaf.addressable_shards for leaf in leaves))
    ]
    shape = (len(leaves), *leaves[0].shape)
    return jax.make_array_from_single_device_arrays(shape, sharding, parts)


@functools.cache
def _stack(sharding: Sharding | None) -> Callable:
    """Stacks arrays, compiled once for each shape."""
    return jax.jit(lambda *parts: jnp.stack(parts), out_shardings=sharding)
