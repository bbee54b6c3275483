"""Adaptive layer-norm modulation: what the timestep does to a block's stages.

Shapes: B batch, L tokens, D width, S segments of tokens (1 where all share a timestep).
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from talkverse_jax.models.wan.layers import enter
from talkverse_jax.ops.modulate import can_modulate, normed_and_modulated, picked
from talkverse_jax.sharding.layout import Layout


class Modulation(NamedTuple):
    """Of one residual stage, float32."""

    shift: Float[Array, "B S D"]
    scale: Float[Array, "B S D"]
    gate: Float[Array, "B S D"]


class BlockModulation(NamedTuple):
    """Of a block's two modulated stages.

    Attributes:
      segment: of each token; None where there is but one.
    """

    attention: Modulation
    feed_forward: Modulation
    segment: Int[Array, " L"] | None = None


def block_modulation(time: Float[Array, "B S 6 D"], bias: Float[Array, "6 D"]) -> BlockModulation:
    """Name the six vectors: shift, scale, gate of self-attention, then of the feed-forward."""
    shift1, scale1, gate1, shift2, scale2, gate2 = jnp.moveaxis(time + bias.astype(jnp.float32), 2, 0)
    return BlockModulation(Modulation(shift1, scale1, gate1), Modulation(shift2, scale2, gate2))


def modulated(
    layout: Layout,
    norm: nnx.LayerNorm,
    x: Float[Array, "B L D"],
    shift: Float[Array, "B S D"],
    scale: Float[Array, "B S D"],
    segment: Int[Array, " L"] | None,
    dtype: Any,
) -> tuple[Float[Array, "B L D"], Float[Array, "B L D"]]:
    """The stream as it goes past a stage, and as the stage takes it: normed, times 1 + scale, plus shift, in the
    stage's dtype. (The first is `x`; a backward pass adds both gradients in one pass.)

    Args:
      norm: without vectors of its own.
      segment: whose vectors a token takes; None where there are but one's.
    """
    if can_modulate(layout, x.shape[-1]):
        whose = jnp.zeros(x.shape[1], jnp.int32) if segment is None else segment
        return normed_and_modulated(layout, x, shift, scale, whose, eps=norm.epsilon, dtype=dtype)
    return x, enter(layout, norm(x) * (1 + picked(scale, segment)) + picked(shift, segment), dtype)


def normed(
    layout: Layout, norm: nnx.LayerNorm, x: Float[Array, "B L D"], dtype: Any
) -> tuple[Float[Array, "B L D"], Float[Array, "B L D"]]:
    """As `modulated`, for a stage in which no timestep has a say.

    Args:
      norm: with vectors of its own.
    """
    if not can_modulate(layout, x.shape[-1]):
        return x, enter(layout, norm(x), dtype)
    gain, bias = (each.get_value().astype(jnp.float32) for each in (norm.scale, norm.bias))  # pyright: ignore[reportOptionalMemberAccess]  # it has both
    shift, scale = (jnp.broadcast_to(each, (x.shape[0], 1, x.shape[-1])) for each in (bias, gain - 1))
    return modulated(layout, norm, x, shift, scale, None, dtype)
