"""Layers of the causal video autoencoders: a layer maps `(x, past, split)` to `(y, new past)`.

A video passes in chunks. `past` holds what a layer must remember of the frames before its chunk; None marks
the first chunk, which is a single frame with nothing but zeros before it. `split` says how pictures are split
among devices (see sharding/pictures.py); XLA has neighbours exchange the rows and columns that convolutions see.

Shapes: B batch, T frames of the chunk, H W rows and columns, C channels in, D channels out.
The stream between layers is float32 wherever something is added to it; convolutions run in `dtype`.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from einops import rearrange
from flax import nnx
from jaxtyping import Array, Float

from talkverse_jax.ops.attention.xla import xla_attention
from talkverse_jax.ops.conv import conv3d
from talkverse_jax.sharding.layout import Layout

Past = Any  # a pytree of arrays; each layer documents its own


def split_pictures(x: Float[Array, "B T H W C"], split: Layout) -> Float[Array, "B T H W C"]:
    """Have rows and columns split, within jit."""
    return split.constrain(x, "batch", None, "rows", "columns", None)


def run_layers(
    layers: Sequence[nnx.Module], x: Array, past: tuple[Past, ...] | None, split: Layout
) -> tuple[Array, tuple]:
    """Pass a chunk through layers in order; their pasts form a tuple."""
    new_past = []
    for layer, layer_past in zip(layers, past or [None] * len(layers)):
        x, layer_past = layer(x, layer_past, split)
        new_past.append(layer_past)
    return x, tuple(new_past)


class RMSNorm(nnx.Module):
    """`x / ||x|| * sqrt(C) * gamma` over the channels, in float32."""

    def __init__(self, dim: int, *, param_dtype):
        self.gamma = nnx.Param(jnp.ones((dim,), param_dtype))

    def __call__(self, x: Float[Array, "... C"]) -> Float[Array, "... C"]:
        x = x.astype(jnp.float32)
        inverse = jax.lax.rsqrt(jnp.maximum(jnp.sum(x * x, axis=-1, keepdims=True), 1e-24))
        return x * inverse * (x.shape[-1] ** 0.5 * self.gamma.get_value().astype(jnp.float32))


class CausalConv3d(nnx.Module):
    """A 3-D convolution that sees its own and earlier frames only, zero-padded in rows and columns.

    Past: the last (kernel frames - time stride) input frames, in `dtype`.
    """

    def __init__(
        self,
        in_dim: int,
        out_dim: int,
        kernel_size: tuple[int, int, int],
        *,
        time_stride: int = 1,
        rngs: nnx.Rngs,
        dtype,
        param_dtype,
    ):
        self.dtype = dtype
        self.time_stride = time_stride
        self.past_frames = kernel_size[0] - time_stride
        init = nnx.initializers.lecun_normal(in_axis=(0, 1, 2, 3), out_axis=4)
        self.kernel = nnx.Param(init(rngs.params(), (*kernel_size, in_dim, out_dim), param_dtype))
        self.bias = nnx.Param(jnp.zeros((out_dim,), param_dtype))

    def __call__(
        self, x: Float[Array, "B T H W C"], past: Float[Array, "B P H W C"] | None, split: Layout
    ) -> tuple[Float[Array, "B T/stride H W D"], Float[Array, "B P H W C"]]:
        x, kernel = split_pictures(x.astype(self.dtype), split), self.kernel.get_value().astype(self.dtype)
        if past is None:  # the zeros before the first frame meet all taps but the last
            y, new_past = conv3d(x, kernel[-1:]), self.past_of(x, split)
        else:
            frames = jnp.concatenate([past, x], axis=1)
            y, new_past = conv3d(frames, kernel, time_stride=self.time_stride), self.past_of(frames, split)
        return split_pictures(y + self.bias.get_value().astype(self.dtype), split), new_past

    def past_of(self, frames: Float[Array, "B T H W C"], split: Layout) -> Float[Array, "B P H W C"]:
        """The past that `frames` leave behind; zeros stand before them if they are too few."""
        missing = max(0, self.past_frames - frames.shape[1])
        frames = jnp.pad(frames, ((0, 0), (missing, 0), (0, 0), (0, 0), (0, 0)))
        return split_pictures(frames[:, -self.past_frames :].astype(self.dtype), split)


class ResidualPast(NamedTuple):
    """What a residual block remembers: two input frames of each convolution."""

    conv1: Float[Array, "B 2 H W C"]
    conv2: Float[Array, "B 2 H W D"]


class ResidualBlock(nnx.Module):
    """Twice norm, SiLU, causal 3x3x3 convolution; a linear shortcut where the channels change."""

    def __init__(self, in_dim: int, out_dim: int, *, rngs: nnx.Rngs, dtype, param_dtype):
        kwargs = dict(rngs=rngs, dtype=dtype, param_dtype=param_dtype)
        self.norm1 = RMSNorm(in_dim, param_dtype=param_dtype)
        self.conv1 = CausalConv3d(in_dim, out_dim, (3, 3, 3), **kwargs)
        self.norm2 = RMSNorm(out_dim, param_dtype=param_dtype)
        self.conv2 = CausalConv3d(out_dim, out_dim, (3, 3, 3), **kwargs)
        self.shortcut = nnx.Linear(in_dim, out_dim, **kwargs) if in_dim != out_dim else None

    def __call__(
        self, x: Float[Array, "B T H W C"], past: ResidualPast | None, split: Layout
    ) -> tuple[Float[Array, "B T H W D"], ResidualPast]:
        past1, past2 = past or (None, None)
        update, past1 = self.conv1(nnx.silu(self.norm1(x)), past1, split)
        update, past2 = self.conv2(nnx.silu(self.norm2(update)), past2, split)
        residual = self.shortcut(x) if self.shortcut else x
        return residual.astype(jnp.float32) + update.astype(jnp.float32), ResidualPast(past1, past2)


class AttentionBlock(nnx.Module):
    """Single-head attention among the pixels of each frame, as a residual. Past: nothing, ().

    Keys and values are gathered from all devices, queries stay where their pixels are.
    """

    def __init__(self, dim: int, *, rngs: nnx.Rngs, dtype, param_dtype):
        kwargs = dict(rngs=rngs, dtype=dtype, param_dtype=param_dtype)
        self.norm = RMSNorm(dim, param_dtype=param_dtype)
        self.to_qkv = nnx.Linear(dim, 3 * dim, **kwargs)
        self.proj = nnx.Linear(dim, dim, **kwargs)

    def __call__(
        self, x: Float[Array, "B T H W C"], past: tuple | None, split: Layout
    ) -> tuple[Array, tuple]:
        q, k, v = jnp.split(split_pictures(self.to_qkv(self.norm(x)), split), 3, axis=-1)
        k, v = (split.constrain(y, "batch", None, None, None, None) for y in (k, v))
        # Rows count as queries and columns as heads, which share their keys: so both can stay split. The head
        # is as wide as the stream (1024 channels): too wide for fused kernels.
        update = xla_attention(
            rearrange(q, "b t h w c -> (b t) h w c"),
            rearrange(k, "b t h w c -> (b t) (h w) 1 c"),
            rearrange(v, "b t h w c -> (b t) (h w) 1 c"),
        )
        update = split_pictures(rearrange(update, "(b t) h w c -> b t h w c", b=x.shape[0]), split)
        return x.astype(jnp.float32) + self.proj(update).astype(jnp.float32), ()


class Head(nnx.Module):
    """Norm, SiLU, causal 3x3x3 convolution. Past: two input frames of the convolution."""

    def __init__(self, in_dim: int, out_dim: int, *, rngs: nnx.Rngs, dtype, param_dtype):
        self.norm = RMSNorm(in_dim, param_dtype=param_dtype)
        self.conv = CausalConv3d(in_dim, out_dim, (3, 3, 3), rngs=rngs, dtype=dtype, param_dtype=param_dtype)

    def __call__(
        self, x: Float[Array, "B T H W C"], past: Array | None, split: Layout
    ) -> tuple[Array, Array]:
        return self.conv(nnx.silu(self.norm(x)), past, split)
