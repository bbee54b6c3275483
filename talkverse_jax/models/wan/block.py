"""A Wan block, and the head.

The residual stream keeps its dtype; matrix products run in the layers' own.
Shapes: B batch, L tokens, D width, S segments of tokens (1 where all share a timestep).
"""

from typing import Any

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from talkverse_jax.models.wan.attention import CrossAttention, KeyValues, SelfAttention
from talkverse_jax.models.wan.config import WanConfig
from talkverse_jax.models.wan.layers import apart, enter, leave, residual
from talkverse_jax.models.wan.linear import Linear
from talkverse_jax.models.wan.modulation import BlockModulation, Modulation, block_modulation, modulated, normed
from talkverse_jax.ops.attention import Attention
from talkverse_jax.ops.modulate import picked
from talkverse_jax.ops.norm import layer_norm
from talkverse_jax.ops.product import product_on
from talkverse_jax.ops.rope import RopeTables
from talkverse_jax.sharding.layout import Layout


class Block(nnx.Module):
    """Self-attention, cross-attention and feed-forward, each a residual stage of its own."""

    cross_attention: type[CrossAttention] = CrossAttention

    def __init__(self, config: WanConfig, attention: Attention, *, rngs: nnx.Rngs, dtype, param_dtype):
        kwargs: dict[str, Any] = dict(rngs=rngs, dtype=dtype, param_dtype=param_dtype)
        norm: dict[str, Any] = dict(rngs=rngs, param_dtype=param_dtype)
        projections = (config.dim, config.num_heads, config.eps, attention)
        self.norm1 = layer_norm(config.dim, config.eps, **norm)
        self.self_attn = SelfAttention(*projections, **kwargs)
        self.norm3 = layer_norm(config.dim, config.eps, affine=True, **norm)
        self.cross_attn = self.cross_attention(*projections, **kwargs)
        self.norm2 = layer_norm(config.dim, config.eps, **norm)
        self.ffn = FeedForward(config, attention.layout, **kwargs)
        init = nnx.initializers.normal(config.dim**-0.5)
        self.modulation = nnx.Param(init(rngs.params(), (6, config.dim), param_dtype))

    def __call__(
        self,
        x: Float[Array, "B L D"],
        modulation: BlockModulation,
        context: KeyValues,
        rope: RopeTables,
        tokens: int,
    ) -> Float[Array, "B L D"]:
        """The stream after the block.

        Args:
          modulation: of `modulation_at`, with the tokens' segments.
          tokens: how many of the L there are; those after them are padding.
        """
        attention, feed_forward, segment = modulation
        x, entering = self.modulated(self.norm1, x, attention, segment)
        x = residual(x, self.self_attn(entering, rope, tokens) * picked(attention.gate, segment))
        x, entering = self.normed(self.norm3, x)
        x = residual(x, self.cross_attn(entering, context))
        x, entering = self.modulated(self.norm2, x, feed_forward, segment)
        return residual(x, self.ffn(entering) * picked(feed_forward.gate, segment))

    def modulated(
        self, norm: nnx.LayerNorm, x: Float[Array, "B L D"], modulation: Modulation, segment: Int[Array, " L"] | None
    ) -> tuple[Float[Array, "B L D"], Float[Array, "B L D"]]:
        """The stream as it goes past a stage, and as the stage takes it."""
        shift, scale, _ = modulation
        return modulated(self.ffn.layout, norm, x, shift, scale, segment, self.ffn.dtype)

    def normed(
        self, norm: nnx.LayerNorm, x: Float[Array, "B L D"]
    ) -> tuple[Float[Array, "B L D"], Float[Array, "B L D"]]:
        """As `modulated`, where no timestep has a say."""
        return normed(self.ffn.layout, norm, x, self.ffn.dtype)

    def modulation_at(self, time: Float[Array, "B S 6 D"]) -> BlockModulation:
        """Its vectors [B, S, D], given the timesteps'."""
        return block_modulation(time, self.modulation.get_value())

    def adaptable(self) -> list[Linear]:
        """The layers that LoRA adapts: all but the values of both attentions."""
        attentions = [getattr(part, name) for part in (self.self_attn, self.cross_attn) for name in "qko"]
        return [*attentions, self.ffn.linear_in, self.ffn.linear_out]


class FeedForward(nnx.Module):
    """Linear, tanh-GELU, Linear."""

    def __init__(self, config: WanConfig, layout: Layout, *, rngs: nnx.Rngs, dtype, param_dtype):
        kwargs: dict[str, Any] = dict(
            kernel_init=nnx.initializers.xavier_uniform(), rngs=rngs, dtype=dtype, param_dtype=param_dtype
        )
        kwargs["dot_general"] = product_on(layout.platform)
        self.layout = layout
        self.dtype = dtype
        self.linear_in = Linear(config.dim, config.ffn_dim, **kwargs)
        self.linear_out = Linear(config.ffn_dim, config.dim, **kwargs)

    def __call__(self, x: Float[Array, "B L D"]) -> Float[Array, "B L D"]:
        x = apart(self.layout, enter(self.layout, x, self.dtype))
        hidden = self.layout.constrain(self.linear_in(x), "batch", "tokens", "hidden")
        hidden = apart(self.layout, nnx.gelu(hidden, approximate=True))
        return leave(self.layout, self.linear_out(hidden))


class Head(nnx.Module):
    """Norm, modulation by the timestep's vector, and the projection to patches, in float32."""

    def __init__(self, config: WanConfig, *, rngs: nnx.Rngs, param_dtype):
        t, r, s = config.patch_size
        self.norm = layer_norm(config.dim, config.eps, rngs=rngs, param_dtype=param_dtype)
        self.linear = nnx.Linear(
            config.dim,
            t * r * s * config.out_channels,
            kernel_init=nnx.initializers.zeros,
            dtype=jnp.float32,
            param_dtype=param_dtype,
            rngs=rngs,
        )
        init = nnx.initializers.normal(config.dim**-0.5)
        self.modulation = nnx.Param(init(rngs.params(), (2, config.dim), param_dtype))

    def __call__(self, x: Float[Array, "B L D"], time: Float[Array, "B D"]) -> Float[Array, "B L P"]:
        shift, scale = jnp.moveaxis(time[:, None] + self.modulation.get_value().astype(jnp.float32), 1, 0)
        return self.linear(self.norm(x) * (1 + scale[:, None]) + shift[:, None])
