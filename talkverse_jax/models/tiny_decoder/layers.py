"""Layers of the tiny decoder: convolutions of single frames, blocks that see the frame before, and growth.

Shapes: B batch, T frames, G times T after growth, H W rows and columns, C channels in, D channels out.
"""

from typing import Any

import jax
import jax.numpy as jnp
from einops import rearrange, repeat
from flax import nnx
from jaxtyping import Array, Float

from talkverse_jax.models.tiny_decoder.config import GrowthSizes
from talkverse_jax.ops.conv import conv3d
from talkverse_jax.sharding.layout import Layout
from talkverse_jax.sharding.pictures import PICTURES

Memory = tuple[Float[Array, "B 1 H W C"], ...]  # of a level: the last frame that went into each of its blocks


class PictureConv(nnx.Module):
    """A 3x3 convolution of a frame and, with `taps` 2, of the one before it, whose channels stand behind its own."""

    def __init__(
        self, in_dim: int, out_dim: int, *, taps: int = 1, bias: bool = True, rngs: nnx.Rngs, dtype, param_dtype
    ):
        self.dtype, self.taps = dtype, taps
        init = nnx.initializers.he_normal(in_axis=(0, 1, 2), out_axis=3)
        self.kernel = nnx.Param(init(rngs.params(), (3, 3, taps * in_dim, out_dim), param_dtype))
        self.bias = nnx.Param(jnp.zeros((out_dim,), param_dtype)) if bias else None

    def __call__(self, x: Float[Array, "B T H W C"], split: Layout) -> Float[Array, "B _ H W D"]:
        """`taps` - 1 frames fewer come out than go in."""
        kernel = self.kernel.get_value().astype(self.dtype)
        kernel = jnp.stack(jnp.split(kernel, self.taps, axis=2)[::-1])  # the frame before is the first tap
        bias = None if self.bias is None else self.bias.get_value().astype(self.dtype)
        return split.constrain(conv3d(x, kernel, bias, layout=split, axes=PICTURES), *PICTURES)


class MemoryBlock(nnx.Module):
    """Three convolutions, of which the first sees the frame before too, as a residual."""

    def __init__(self, dim: int, *, rngs: nnx.Rngs, dtype, param_dtype):
        kwargs: dict[str, Any] = dict(rngs=rngs, dtype=dtype, param_dtype=param_dtype)
        self.conv1 = PictureConv(dim, dim, taps=2, **kwargs)
        self.conv2 = PictureConv(dim, dim, **kwargs)
        self.conv3 = PictureConv(dim, dim, **kwargs)

    def __call__(
        self, x: Float[Array, "B T H W C"], before: Float[Array, "B 1 H W C"], split: Layout
    ) -> tuple[Float[Array, "B T H W C"], Float[Array, "B 1 H W C"]]:
        """Returns what the next call takes as `before`, besides."""
        y = jax.nn.relu(self.conv1(split.constrain(jnp.concatenate([before, x], axis=1), *PICTURES), split))
        y = self.conv3(jax.nn.relu(self.conv2(y, split)), split)
        return jax.nn.relu(x + y), x[:, -1:]


class Growth(nnx.Module):
    """Blocks with a memory; then each frame becomes `time` ones, and each pixel 2x2.

    The published order is to double rows and columns first; a product of single pixels is the same before it, at a
    quarter of the work.
    """

    def __init__(self, sizes: GrowthSizes, blocks: int, *, rngs: nnx.Rngs, dtype, param_dtype):
        kwargs: dict[str, Any] = dict(rngs=rngs, dtype=dtype, param_dtype=param_dtype)
        self.dtype, self.time = dtype, sizes.time
        self.blocks = nnx.List(MemoryBlock(sizes.dim, **kwargs) for _ in range(blocks))
        init = nnx.initializers.lecun_normal()
        self.grow = nnx.Param(init(rngs.params(), (sizes.dim, sizes.time * sizes.dim), param_dtype))
        self.conv = PictureConv(sizes.dim, sizes.out_dim, bias=False, **kwargs)

    def __call__(
        self, x: Float[Array, "B T H W C"], memory: Memory, split: Layout
    ) -> tuple[Float[Array, "B G _ _ D"], Memory]:
        kept = []
        for block, before in zip(self.blocks, memory, strict=True):
            x, before = block(x, before, split)
            kept.append(before)
        parts = jnp.split(self.grow.get_value().astype(self.dtype), self.time, axis=1)
        frames = jnp.stack([x @ part for part in parts], axis=2)
        x = split.constrain(rearrange(frames, "b t g h w c -> b (t g) h w c"), *PICTURES)
        x = split.constrain(repeat(x, "b t h w c -> b t (h 2) (w 2) c"), *PICTURES)
        return self.conv(x, split), tuple(kept)
