"""The residual stages of a Wan block, and the head. A model owns its loop over them.

The residual stream stays in float32; matrix products run in the layers' own dtype.
Shapes: B batch, L tokens, D width, S context tokens.
"""

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from talkverse_jax.models.wan.attention import CrossAttention, KeyValues, SelfAttention
from talkverse_jax.models.wan.config import WanConfig
from talkverse_jax.models.wan.linear import Linear
from talkverse_jax.models.wan.modulation import BlockModulation, Modulation, block_modulation, per_token
from talkverse_jax.ops.attention import Attention
from talkverse_jax.ops.rope import RopeTables
from talkverse_jax.sharding.layout import Layout


def layer_norm(dim: int, eps: float, *, rngs: nnx.Rngs, affine: bool = False, param_dtype=jnp.float32):
    """Layer norm in float32; two-pass variance, which float32 needs to agree with the original."""
    return nnx.LayerNorm(
        dim,
        epsilon=eps,
        use_bias=affine,
        use_scale=affine,
        use_fast_variance=False,
        dtype=jnp.float32,
        param_dtype=param_dtype,
        rngs=rngs,
    )


def enter(layout: Layout, x: Float[Array, "B L D"], dtype) -> Float[Array, "B L D"]:
    """From the residual stream into a stage: where `tensor` devices share the stream, it is gathered in the
    layers' own dtype."""
    return layout.constrain(x.astype(dtype), "batch", "tokens", None)


def leave(layout: Layout, update: Float[Array, "B L D"]) -> Float[Array, "B L D"]:
    """From a stage back to the stream: `tensor` devices' parts of the sum are added and shared out again."""
    return layout.constrain(update, "batch", "stream", None).astype(jnp.float32)


class FeedForward(nnx.Module):
    """Linear, tanh-GELU, Linear."""

    def __init__(self, config: WanConfig, layout: Layout, *, rngs: nnx.Rngs, dtype, param_dtype):
        kwargs = dict(kernel_init=nnx.initializers.xavier_uniform(), rngs=rngs, dtype=dtype, param_dtype=param_dtype)
        self.layout = layout
        self.linear_in = Linear(config.dim, config.ffn_dim, **kwargs)
        self.linear_out = Linear(config.ffn_dim, config.dim, **kwargs)

    def __call__(self, x: Float[Array, "B L D"]) -> Float[Array, "B L D"]:
        hidden = self.layout.constrain(self.linear_in(x), "batch", "tokens", "hidden")
        return self.linear_out(nnx.gelu(hidden, approximate=True))


class Block(nnx.Module):
    """Self-attention, cross-attention and feed-forward, each a residual stage of its own."""

    def __init__(self, config: WanConfig, attention: Attention, *, rngs: nnx.Rngs, dtype, param_dtype):
        kwargs = dict(rngs=rngs, dtype=dtype, param_dtype=param_dtype)
        norm = dict(rngs=rngs, param_dtype=param_dtype)
        projections = (config.dim, config.num_heads, config.eps, attention)
        self.dtype = dtype
        self.layout = attention.layout
        self.norm1 = layer_norm(config.dim, config.eps, **norm)
        self.self_attn = SelfAttention(*projections, **kwargs)
        self.norm3 = layer_norm(config.dim, config.eps, affine=True, **norm)
        self.cross_attn = CrossAttention(*projections, **kwargs)
        self.norm2 = layer_norm(config.dim, config.eps, **norm)
        self.ffn = FeedForward(config, attention.layout, **kwargs)
        init = nnx.initializers.normal(config.dim**-0.5)
        self.modulation = nnx.Param(init(rngs.params(), (6, config.dim), param_dtype))

    def name_modulation(self, time_vectors: Float[Array, "B 2 6 D"]) -> BlockModulation:
        return block_modulation(time_vectors, self.modulation.get_value())

    def attend_self(
        self,
        x: Float[Array, "B L D"],
        modulation: Modulation,
        clean: Bool[Array, " L"],
        rope: RopeTables,
        tokens: int,
    ) -> Float[Array, "B L D"]:
        """Only the first `tokens` of the L are attended to; the others are padding."""
        update = self.self_attn(self._enter(_modulate(self.norm1(x), modulation, clean)), rope, tokens)
        return x + self._leave(update) * per_token(modulation.gate, clean)

    def attend_context(self, x: Float[Array, "B L D"], context: KeyValues) -> Float[Array, "B L D"]:
        return x + self._leave(self.cross_attn(self._enter(self.norm3(x)), context))

    def feed_forward(
        self, x: Float[Array, "B L D"], modulation: Modulation, clean: Bool[Array, " L"]
    ) -> Float[Array, "B L D"]:
        update = self.ffn(self._enter(_modulate(self.norm2(x), modulation, clean)))
        return x + self._leave(update) * per_token(modulation.gate, clean)

    def _enter(self, x: Float[Array, "B L D"]) -> Float[Array, "B L D"]:
        return enter(self.layout, x, self.dtype)

    def _leave(self, update: Float[Array, "B L D"]) -> Float[Array, "B L D"]:
        return leave(self.layout, update)

    def adaptable(self) -> list[Linear]:
        """The layers that LoRA adapts: all but the values of both attentions."""
        attentions = [getattr(part, name) for part in (self.self_attn, self.cross_attn) for name in "qko"]
        return [*attentions, self.ffn.linear_in, self.ffn.linear_out]


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


def _modulate(x: Float[Array, "B L D"], modulation: Modulation, clean: Bool[Array, " L"]) -> Float[Array, "B L D"]:
    return x * (1 + per_token(modulation.scale, clean)) + per_token(modulation.shift, clean)
