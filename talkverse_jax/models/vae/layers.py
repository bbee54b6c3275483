"""Layers of the causal video autoencoders: a layer maps `(x, past, chunk)` to `(y, new past)`.

A video passes in chunks. `past` holds what a layer must remember of the frames before its chunk; None stands
for zeros. The first frame of a video has a chunk to itself, which it ends: the frames before it mean nothing and
are zero wherever it could see them. So one program runs all chunks; XLA:TPU spends up to half a minute of
processor time on each kind of convolution in a program.

Several devices split the pictures' rows and columns (see sharding/pictures.py); XLA has neighbours exchange
those that a convolution sees.

Shapes: B batch, T frames of the chunk and F after it was strided, H W rows and columns, C channels in, D channels out.
The stream between layers is float32 wherever something is added to it; convolutions run in `dtype`.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from einops import rearrange
from flax import nnx
from jaxtyping import Array, Bool, Float

from talkverse_jax.ops.attention.xla import xla_attention
from talkverse_jax.ops.conv import conv3d
from talkverse_jax.sharding.layout import Layout
from talkverse_jax.sharding.pictures import PICTURES

Past = Any  # a pytree of arrays; each layer documents its own


class Chunk(NamedTuple):
    """What layers are told of a chunk.

    Attributes:
      first: it holds the video's first frame, alone, as its last one.
      split: how its pictures are split among devices.
    """

    first: bool | Bool[Array, ""]
    split: Layout

    def keep_split(self, x: Float[Array, "B T H W C"]) -> Float[Array, "B T H W C"]:
        """Have rows and columns split, within jit."""
        return self.split.constrain(x, *PICTURES)

    def without_padding(self, x: Float[Array, "B T H W C"]) -> Float[Array, "B T H W C"]:
        """Zeros in place of the frames before the first."""
        before = jnp.arange(x.shape[1]) < x.shape[1] - 1
        return jnp.where(self.first & before[:, None, None, None], 0, x)


def run_layers(
    layers: Sequence[nnx.Module], x: Array, past: tuple[Past, ...] | None, chunk: Chunk
) -> tuple[Array, tuple]:
    """Pass a chunk through layers in order; their pasts form a tuple."""
    new_past = []
    for layer, layer_past in zip(layers, past or [None] * len(layers)):
        x, layer_past = layer(x, layer_past, chunk)
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

    Past: the last (kernel frames - time stride) input frames, in `dtype`. With a residual the result is float32.
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
        self,
        x: Float[Array, "B T H W C"],
        past: Float[Array, "B P H W C"] | None,
        chunk: Chunk,
        residual: Float[Array, "B F H W D"] | None = None,
    ) -> tuple[Float[Array, "B F H W D"], Float[Array, "B P H W C"]]:
        x = chunk.without_padding(x.astype(self.dtype))
        if past is None:
            past = jnp.zeros((x.shape[0], self.past_frames, *x.shape[2:]), self.dtype)
        frames = chunk.keep_split(jnp.concatenate([past, x], axis=1))
        kernel, bias = (p.get_value().astype(self.dtype) for p in (self.kernel, self.bias))
        how: dict[str, Any] = dict(time_stride=self.time_stride, layout=chunk.split, axes=PICTURES)
        y = conv3d(frames, kernel, bias, residual, **how)
        return chunk.keep_split(y), chunk.keep_split(frames[:, -self.past_frames :])


class ResidualPast(NamedTuple):
    """What a residual block remembers: two input frames of each convolution."""

    conv1: Float[Array, "B 2 H W C"]
    conv2: Float[Array, "B 2 H W D"]


class ResidualBlock(nnx.Module):
    """Twice norm, SiLU, causal 3x3x3 convolution; a linear shortcut where the channels change."""

    def __init__(self, in_dim: int, out_dim: int, *, rngs: nnx.Rngs, dtype, param_dtype):
        kwargs: dict[str, Any] = dict(rngs=rngs, dtype=dtype, param_dtype=param_dtype)
        self.norm1 = RMSNorm(in_dim, param_dtype=param_dtype)
        self.conv1 = CausalConv3d(in_dim, out_dim, (3, 3, 3), **kwargs)
        self.norm2 = RMSNorm(out_dim, param_dtype=param_dtype)
        self.conv2 = CausalConv3d(out_dim, out_dim, (3, 3, 3), **kwargs)
        self.shortcut = nnx.Linear(in_dim, out_dim, **kwargs) if in_dim != out_dim else None

    def __call__(
        self, x: Float[Array, "B T H W C"], past: ResidualPast | None, chunk: Chunk
    ) -> tuple[Float[Array, "B T H W D"], ResidualPast]:
        past1, past2 = past or (None, None)
        update, past1 = self.conv1(nnx.silu(self.norm1(x)), past1, chunk)
        residual = self.shortcut(x) if self.shortcut else x
        y, past2 = self.conv2(nnx.silu(self.norm2(update)), past2, chunk, residual)
        return y, ResidualPast(past1, past2)


class AttentionBlock(nnx.Module):
    """Single-head attention among the pixels of each frame, as a residual. Past: nothing, ().

    Keys and values are gathered from all devices, queries stay where their pixels are.
    """

    def __init__(self, dim: int, *, rngs: nnx.Rngs, dtype, param_dtype):
        kwargs: dict[str, Any] = dict(rngs=rngs, dtype=dtype, param_dtype=param_dtype)
        self.norm = RMSNorm(dim, param_dtype=param_dtype)
        self.to_qkv = nnx.Linear(dim, 3 * dim, **kwargs)
        self.proj = nnx.Linear(dim, dim, **kwargs)

    def __call__(self, x: Float[Array, "B T H W C"], past: tuple | None, chunk: Chunk) -> tuple[Array, tuple]:
        q, k, v = jnp.split(chunk.keep_split(self.to_qkv(self.norm(x))), 3, axis=-1)
        k, v = (chunk.split.constrain(y, "batch", None, None, None, None) for y in (k, v))
        # Rows count as queries and columns as heads, which share their keys: so both can stay split. The head
        # is as wide as the stream (1024 channels): too wide for fused kernels.
        update = xla_attention(
            rearrange(q, "b t h w c -> (b t) h w c"),
            rearrange(k, "b t h w c -> (b t) (h w) 1 c"),
            rearrange(v, "b t h w c -> (b t) (h w) 1 c"),
        )
        update = chunk.keep_split(rearrange(update, "(b t) h w c -> b t h w c", b=x.shape[0]))
        return x.astype(jnp.float32) + self.proj(update).astype(jnp.float32), ()


class CoderHead(nnx.Module):
    """Norm, SiLU, causal 3x3x3 convolution. Past: two input frames of the convolution."""

    def __init__(self, in_dim: int, out_dim: int, *, rngs: nnx.Rngs, dtype, param_dtype):
        self.norm = RMSNorm(in_dim, param_dtype=param_dtype)
        self.conv = CausalConv3d(in_dim, out_dim, (3, 3, 3), rngs=rngs, dtype=dtype, param_dtype=param_dtype)

    def __call__(self, x: Float[Array, "B T H W C"], past: Array | None, chunk: Chunk) -> tuple[Array, Array]:
        return self.conv(nnx.silu(self.norm(x)), past, chunk)
