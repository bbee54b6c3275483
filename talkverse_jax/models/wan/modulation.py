"""Adaptive layer-norm modulation, computed once per segment of the sequence and not per token.

A sequence holds two kinds of token: noisy ones, at the step's timestep, and clean ones (reference, motion),
at timestep 0. Vectors are kept as [B, 2, D] (noisy, clean) and picked per token while XLA fuses the product,
so 27,000 tokens cost no 27,000 x 6 D modulation.

Shapes: B batch, L tokens, D width.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


class Modulation(NamedTuple):
    """What one residual stage does to its input and output; float32."""

    shift: Float[Array, "B 2 D"]
    scale: Float[Array, "B 2 D"]
    gate: Float[Array, "B 2 D"]


class BlockModulation(NamedTuple):
    """The modulation of a block's two modulated stages."""

    attention: Modulation
    feed_forward: Modulation


def block_modulation(time_vectors: Float[Array, "B 2 6 D"], bias: Float[Array, "6 D"]) -> BlockModulation:
    """Name the six vectors: shift, scale, gate of self-attention, then of the feed-forward."""
    shift1, scale1, gate1, shift2, scale2, gate2 = jnp.moveaxis(time_vectors + bias.astype(jnp.float32), 2, 0)
    return BlockModulation(Modulation(shift1, scale1, gate1), Modulation(shift2, scale2, gate2))


def per_token(vectors: Float[Array, "B 2 D"], clean: Bool[Array, " L"]) -> Float[Array, "B L D"]:
    """Each token's vector: the first where it is noisy, the second where it is clean."""
    return jnp.where(clean[None, :, None], vectors[:, 1:], vectors[:, :1])
