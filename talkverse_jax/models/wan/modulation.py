"""Adaptive layer-norm modulation: what the timestep does to a block's stages.

Shapes: B batch, L tokens, D width.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float


class Modulation(NamedTuple):
    """Of one residual stage, float32. `Block` takes vectors that broadcast over its tokens: [B, 1, D], or
    [B, L, D] where tokens differ, which XLA then makes as it reads them and never stores."""

    shift: Float[Array, "B *S D"]
    scale: Float[Array, "B *S D"]
    gate: Float[Array, "B *S D"]


class BlockModulation(NamedTuple):
    """Of a block's two modulated stages."""

    attention: Modulation
    feed_forward: Modulation


def block_modulation(time: Float[Array, "B S 6 D"], bias: Float[Array, "6 D"]) -> BlockModulation:
    """Name the six vectors: shift, scale, gate of self-attention, then of the feed-forward."""
    shift1, scale1, gate1, shift2, scale2, gate2 = jnp.moveaxis(time + bias.astype(jnp.float32), 2, 0)
    return BlockModulation(Modulation(shift1, scale1, gate1), Modulation(shift2, scale2, gate2))


def modulate(x: Float[Array, "B L D"], modulation: Modulation) -> Float[Array, "B L D"]:
    return x * (1 + modulation.scale) + modulation.shift
