"""Down- and upsampling between the levels of the autoencoder, learned ones and parameter-free shortcuts.

The first frame of a video stands alone: no layer here halves or doubles it in time. It ends its chunk (see
layers.py), and the last of its copies counts.

Shapes: B batch, T frames of the chunk, H W rows and columns, F h w the same after it, C channels in, D channels out.
"""

from typing import Any

import jax.numpy as jnp
from einops import rearrange, reduce, repeat
from flax import nnx
from jaxtyping import Array, Float

from talkverse_jax.models.vae.layers import CausalConv3d, Chunk
from talkverse_jax.ops.conv import conv3d
from talkverse_jax.sharding.pictures import PICTURES


class Downsample(nnx.Module):
    """A stride-2 3x3 convolution of each frame, then (`time`) a stride-2 convolution over three frames.

    Past: the last frame before the time convolution; () without one. The video's first frame passes that by.
    """

    def __init__(self, in_dim: int, out_dim: int, time: bool, *, rngs: nnx.Rngs, dtype, param_dtype):
        kwargs: dict[str, Any] = dict(rngs=rngs, dtype=dtype, param_dtype=param_dtype)
        # One zero pixel on the right and at the bottom, none on the other sides.
        self.resample = nnx.Conv(in_dim, out_dim, (3, 3), strides=2, padding=((0, 1), (0, 1)), **kwargs)
        self.time_conv = CausalConv3d(out_dim, out_dim, (3, 1, 1), time_stride=2, **kwargs) if time else None

    def __call__(
        self, x: Float[Array, "B T H W C"], past: Float[Array, "B 1 h w D"] | tuple | None, chunk: Chunk
    ) -> tuple[Float[Array, "B F h w D"], Float[Array, "B 1 h w D"] | tuple]:
        x = chunk.keep_split(self.resample(x))
        if self.time_conv is None:
            return x, ()
        halved, past = self.time_conv(x, past, chunk)  # pyright: ignore[reportArgumentType]  # () is for none
        return jnp.where(chunk.first, x[:, -halved.shape[1] :], halved), past


class Upsample(nnx.Module):
    """(`time`) a convolution over three frames that makes two of each, then nearest x2 and a 3x3 convolution.

    Past: two input frames of the time convolution, which the video's first frame passes by and which never
    sees it; () without one.
    """

    def __init__(self, in_dim: int, out_dim: int, time: bool, *, rngs: nnx.Rngs, dtype, param_dtype):
        kwargs: dict[str, Any] = dict(rngs=rngs, dtype=dtype, param_dtype=param_dtype)
        self.dtype = dtype
        self.time_conv = CausalConv3d(in_dim, 2 * in_dim, (3, 1, 1), **kwargs) if time else None
        self.resample = nnx.Conv(in_dim, out_dim, (3, 3), padding=1, **kwargs)

    def __call__(
        self, x: Float[Array, "B T H W C"], past: Float[Array, "B 2 H W C"] | tuple | None, chunk: Chunk
    ) -> tuple[Float[Array, "B F h w D"], Float[Array, "B 2 H W C"] | tuple]:
        new_past = ()
        if self.time_conv is not None:
            pair, new_past = self.time_conv(x, past, chunk)  # pyright: ignore[reportArgumentType]  # () is for none
            early, late = (jnp.where(chunk.first, x, frames) for frames in jnp.split(pair, 2, axis=-1))
            # Frame by frame: for a TPU, XLA gathers the rows of all devices to take a channel's halves apart
            # in a reshape (JAX 0.10.2).
            x = jnp.concatenate([y[:, t : t + 1] for t in range(x.shape[1]) for y in (early, late)], axis=1)
            new_past = jnp.where(chunk.first, 0, new_past)
        x = chunk.keep_split(repeat(x, "b t h w c -> b t (h 2) (w 2) c"))
        return chunk.keep_split(self._convolve(x, chunk)), new_past

    def _convolve(self, x: Float[Array, "B T H W C"], chunk: Chunk) -> Float[Array, "B T H W D"]:
        assert self.resample.bias is not None
        kernel, bias = (p.get_value().astype(self.dtype) for p in (self.resample.kernel, self.resample.bias))
        return conv3d(x.astype(self.dtype), kernel[None], bias, layout=chunk.split, axes=PICTURES)


def average_down(x: Float[Array, "B T H W C"], out_dim: int, time: int, space: int) -> Float[Array, "B F h w D"]:
    """Every block of (channel, time, row, column offset), flattened in this order, averaged in consecutive
    groups down to `out_dim` channels."""
    blocks = rearrange(x, "b (f t) (h y) (w x) c -> b f h w (c t y x)", t=time, y=space, x=space)
    return reduce(blocks, "b f h w (d group) -> b f h w d", "mean", d=out_dim)


def repeat_up(x: Float[Array, "B T H W C"], out_dim: int, time: int, space: int) -> Float[Array, "B F h w D"]:
    """Channels repeated consecutively and read as (out channel, time, row, column offset): the counterpart of
    `average_down`. C is a multiple of D."""
    # Each output channel is made of `ratio` input channels, which share the offsets evenly. Repeating them
    # along a last axis of their own is the same, but a TPU pads that axis to 128 (25 GB at 640x640).
    offsets, ratio = time * space**2, x.shape[-1] // out_dim
    parts = [x[..., i::ratio] for i in range(ratio)]
    blocks = jnp.stack([parts[offset * ratio // offsets] for offset in range(offsets)])
    return rearrange(blocks, "(t y x) b f h w d -> b (f t) (h y) (w x) d", t=time, y=space, x=space)
