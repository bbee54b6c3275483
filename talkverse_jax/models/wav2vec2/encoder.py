"""The transformer of wav2vec2: positions by convolution, then layers.

The residual stream, norms and softmax are in float32. On several devices each computes some heads and some
hidden channels; the residual stream is whole on all.
Shapes: B batch, T vectors (50 a second), D width, N heads, K head width.
"""

import functools

import jax
import jax.numpy as jnp
from einops import rearrange
from flax import nnx
from jaxtyping import Array, Float, Int

from talkverse_jax.models.wav2vec2.axes import AXES
from talkverse_jax.models.wav2vec2.config import Wav2Vec2Config
from talkverse_jax.ops.attention.xla import in_query_blocks
from talkverse_jax.ops.norm import layer_norm
from talkverse_jax.sharding.layout import Layout


class WeightNormConv(nnx.Module):
    """Grouped convolution that keeps the length; its kernel is `g * v / |v|` with a norm for each tap."""

    def __init__(self, config: Wav2Vec2Config, *, rngs: nnx.Rngs, dtype, param_dtype):
        taps, groups = config.num_conv_pos_embeddings, config.num_conv_pos_embedding_groups
        self.groups = groups
        self.dtype = dtype
        init = nnx.initializers.lecun_normal(in_axis=(0, 1), out_axis=2)
        shape = (taps, config.hidden_size // groups, config.hidden_size)
        self.weight_v = nnx.Param(init(rngs.params(), shape, param_dtype))
        self.weight_g = nnx.Param(jnp.ones((taps, 1, 1), param_dtype))
        self.bias = nnx.Param(jnp.zeros((config.hidden_size,), param_dtype))

    def __call__(self, x: Float[Array, "B T D"]) -> Float[Array, "B T D"]:
        v = self.weight_v.get_value().astype(jnp.float32)
        g = self.weight_g.get_value().astype(jnp.float32)
        kernel = g * v / jnp.linalg.norm(v, axis=(1, 2), keepdims=True)
        half = kernel.shape[0] // 2
        out = jax.lax.conv_general_dilated(
            x.astype(self.dtype),
            kernel.astype(self.dtype),
            window_strides=(1,),
            padding=[(half, kernel.shape[0] - 1 - half)],
            dimension_numbers=("NWC", "WIO", "NWC"),
            feature_group_count=self.groups,
        )
        return out + self.bias.get_value().astype(self.dtype)


class PositionEmbedding(nnx.Module):
    """What the neighbourhood of 128 vectors (2.6 s) says of a vector's position."""

    def __init__(self, config: Wav2Vec2Config, *, rngs: nnx.Rngs, dtype, param_dtype):
        self.conv = WeightNormConv(config, rngs=rngs, dtype=dtype, param_dtype=param_dtype)

    def __call__(self, x: Float[Array, "B T D"]) -> Float[Array, "B T D"]:
        return nnx.gelu(self.conv(x), approximate=False).astype(jnp.float32)


class Wav2Vec2Attention(nnx.Module):
    """Self-attention to the vectors that come from sound, not from padding."""

    def __init__(self, config: Wav2Vec2Config, *, rngs: nnx.Rngs, dtype, param_dtype, layout: Layout):
        linear = functools.partial(nnx.Linear, rngs=rngs, dtype=dtype, param_dtype=param_dtype)
        self.layout = layout
        self.num_heads = config.num_attention_heads
        self.q_proj = linear(config.hidden_size, config.hidden_size)
        self.k_proj = linear(config.hidden_size, config.hidden_size)
        self.v_proj = linear(config.hidden_size, config.hidden_size)
        self.out_proj = linear(config.hidden_size, config.hidden_size)

    def __call__(self, x: Float[Array, "B T D"], frames: Int[Array, " B"]) -> Float[Array, "B T D"]:
        projections = (self.q_proj, self.k_proj, self.v_proj)
        q, k, v = (rearrange(f(x), "b t (n k) -> b t n k", n=self.num_heads) for f in projections)
        q, k, v = (self.layout.constrain(y, "batch", None, "heads", None) for y in (q, k, v))
        return self.out_proj(rearrange(attend(q, k, v, frames), "b t n k -> b t (n k)"))


class Wav2Vec2FeedForward(nnx.Module):
    """Linear, GELU, Linear."""

    def __init__(self, config: Wav2Vec2Config, *, rngs: nnx.Rngs, dtype, param_dtype, layout: Layout):
        linear = functools.partial(nnx.Linear, rngs=rngs, dtype=dtype, param_dtype=param_dtype)
        self.layout = layout
        self.intermediate_dense = linear(config.hidden_size, config.intermediate_size)
        self.output_dense = linear(config.intermediate_size, config.hidden_size)

    def __call__(self, x: Float[Array, "B T D"]) -> Float[Array, "B T D"]:
        hidden = nnx.gelu(self.intermediate_dense(x), approximate=False)
        return self.output_dense(self.layout.constrain(hidden, "batch", None, "hidden"))


class EncoderLayer(nnx.Module):
    """Attention and feed-forward, each behind its norm ("stable") or before it."""

    def __init__(self, config: Wav2Vec2Config, *, rngs: nnx.Rngs, dtype, param_dtype, layout: Layout):
        width, eps = config.hidden_size, config.layer_norm_eps
        self.layout = layout
        self.stable = config.do_stable_layer_norm
        self.layer_norm = layer_norm(width, eps, affine=True, rngs=rngs, param_dtype=param_dtype)
        self.attention = Wav2Vec2Attention(config, rngs=rngs, dtype=dtype, param_dtype=param_dtype, layout=layout)
        self.final_layer_norm = layer_norm(width, eps, affine=True, rngs=rngs, param_dtype=param_dtype)
        self.feed_forward = Wav2Vec2FeedForward(config, rngs=rngs, dtype=dtype, param_dtype=param_dtype, layout=layout)

    def __call__(self, x: Float[Array, "B T D"], frames: Int[Array, " B"]) -> Float[Array, "B T D"]:
        whole = lambda y: self.layout.constrain(y.astype(jnp.float32), "batch", None, None)  # noqa: E731
        if self.stable:
            x = x + whole(self.attention(self.layer_norm(x), frames))
            return x + whole(self.feed_forward(self.final_layer_norm(x)))
        x = self.layer_norm(x + whole(self.attention(x, frames)))
        return self.final_layer_norm(x + whole(self.feed_forward(x)))


class Wav2Vec2Encoder(nnx.Module):
    """Position embedding, layers; a norm behind the last ("stable") or before the first."""

    def __init__(self, config: Wav2Vec2Config, *, rngs: nnx.Rngs, dtype, param_dtype, layout: Layout):
        self.layout = layout
        self.stable = config.do_stable_layer_norm
        self.pos_conv_embed = PositionEmbedding(config, rngs=rngs, dtype=dtype, param_dtype=param_dtype)
        self.layers = nnx.List(
            EncoderLayer(config, rngs=rngs, dtype=dtype, param_dtype=param_dtype, layout=layout)
            for _ in range(config.num_hidden_layers)
        )
        self.layer_norm = layer_norm(
            config.hidden_size, config.layer_norm_eps, affine=True, rngs=rngs, param_dtype=param_dtype
        )

    def __call__(self, x: Float[Array, "B T D"], frames: Int[Array, " B"]) -> tuple[Float[Array, "B T D"], ...]:
        """The input of the first layer and the outputs of all, the last one normed."""
        x = x + self.layout.gathered(self.pos_conv_embed, AXES)(x)
        states = [x if self.stable else self.layer_norm(x)]
        for layer in self.layers:
            states.append(layer(states[-1], frames))
        return (*states[:-1], self.layer_norm(states[-1])) if self.stable else tuple(states)


def attend(
    q: Float[Array, "B T N K"],
    k: Float[Array, "B T N K"],
    v: Float[Array, "B T N K"],
    frames: Int[Array, " B"],
) -> Float[Array, "B T N K"]:
    """Softmax attention to the first `frames` keys; memory grows with the length, not with its square."""

    def block(q: Float[Array, "B t N K"]) -> Float[Array, "B t N K"]:
        return jax.nn.dot_product_attention(q, k, v, key_value_seq_lengths=frames, implementation="xla")

    return in_query_blocks(block, q, k.shape[1])
