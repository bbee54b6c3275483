"""Live LoRA adapters on a network's layers, and the pairs of files as their values and back."""

import math
import zlib
from collections.abc import Iterable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from talkverse_jax.core.tree import Flat
from talkverse_jax.models.wan.linear import Linear
from talkverse_jax.weights.lora import Pair

A, B = "/adapter/a", "/adapter/b"


def attach(layers: Iterable[Linear], rank: int, alpha: float) -> None:
    """Give layers of an (abstract) network adapters of shapes alone, float32."""
    for layer in layers:
        layer.attach(rank, alpha, jnp.float32)


def new_factor(seed: int, path: str, shape: tuple[int, ...], place) -> Float[Array, "rows columns"]:
    """An adapter's factor as training begins: A uniform within 1/sqrt(inputs), B zeros, so that nothing changes.

    Args:
      path: of the parameter, on which its numbers depend alone.
      place: its sharding; None: the default device.
    """
    if path.endswith(B):
        return jnp.zeros(shape, jnp.float32, device=place)
    key = jax.random.fold_in(jax.random.key(seed), zlib.crc32(path.encode()))
    bound = 1 / math.sqrt(shape[0])
    return jax.device_put(jax.random.uniform(key, shape, jnp.float32, -bound, bound), place)


def factors(pairs: Mapping[str, Pair]) -> dict[str, Float[np.ndarray, "rows columns"]]:
    """Pairs of a file, by our path of their kernel, as values of adapters in host memory."""
    values = {}
    for path, pair in pairs.items():
        layer = path.removesuffix("/kernel")
        values[layer + A], values[layer + B] = pair.a.T, pair.b.T
    return values


def pairs(parameters: Flat) -> dict[str, tuple[str, str]]:
    """Of parameters by path: the paths of A and B of each adapted kernel."""
    layers = [path.removesuffix(A) for path in parameters if path.endswith(A)]
    return {f"{layer}/kernel": (layer + A, layer + B) for layer in layers}
