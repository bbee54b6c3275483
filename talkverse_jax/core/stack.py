"""Layers of one kind kept together, so that a compiler sees one of them: the body of a `lax.scan`.

Those in host memory are copied into the device's as they are used.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import jax
from flax import nnx

HOST = "pinned_host"  # JAX's name of host memory that devices copy from by themselves

Carry = TypeVar("Carry")
Leaves = TypeVar("Leaves")


class Stack(nnx.Module):
    """Several layers whose parameters lie along a first axis; one layer alone has no such axis.

    Attributes:
      names: the path that each layer's parameters have elsewhere (in files, in tables): stacking is a matter of
        how a program is compiled, and changes no name.
      on_host: whether the parameters lie in host memory.
    """

    def __init__(
        self, names: Sequence[str], make: Callable[[nnx.Rngs], nnx.Module], rngs: nnx.Rngs, on_host: bool = False
    ):
        self.names = tuple(names)
        self.on_host = on_host
        if len(names) == 1:
            self.layers = make(rngs)
        else:
            keys = jax.random.split(rngs.params(), len(names))
            self.layers = nnx.vmap(lambda key: make(nnx.Rngs(key)))(keys)

    def map(self, function: Callable[[Any], Any]) -> Any:
        """What `function` returns for every layer, along a first axis where there are several."""
        graphdef, state = nnx.split(self.layers)
        if len(self.names) == 1:
            return function(self.layers)
        return jax.lax.map(lambda one: function(nnx.merge(graphdef, one)), state)


def fold(step: Callable[[Carry, Any], Carry], carry: Carry, items: Any, length: int, unroll: int = 1) -> Carry:
    """`carry = step(carry, item)` for `length` items that lie along a first axis; one alone has no such axis.

    Args:
      unroll: steps that are compiled one after the other.
    """
    if length == 1:
        return step(carry, items)
    return jax.lax.scan(lambda carry, item: (step(carry, item), None), carry, items, unroll=unroll)[0]


def on_device(leaves: Leaves) -> Leaves:
    """Within jit: a pytree in the device's memory, copied there if it lies in the host's."""
    return jax.tree.map(lambda x: jax.device_put(x, jax.memory.Space.Device), leaves)
