"""Down- and upsampling between the levels of the autoencoder, learned ones and parameter-free shortcuts.

The first frame of a video stands alone: no layer here halves or doubles it in time.

Shapes: B batch, T frames of the chunk, H W rows and columns, C channels in, D channels out.
"""

import jax.numpy as jnp
from einops import rearrange, reduce, repeat
from flax import nnx
from jaxtyping import Array, Float

from talkverse_jax.models.vae.layers import CausalConv3d, split_pictures
from talkverse_jax.sharding.layout import Layout


class Downsample(nnx.Module):
    """A stride-2 3x3 convolution of each frame, then (`time`) a stride-2 convolution over three frames.

    Past: the last frame before the time convolution; () without one.
    """

    def __init__(self, dim: int, time: bool, *, rngs: nnx.Rngs, dtype, param_dtype):
        kwargs = dict(rngs=rngs, dtype=dtype, param_dtype=param_dtype)
        # One zero pixel on the right and at the bottom, none on the other sides.
        self.resample = nnx.Conv(dim, dim, (3, 3), strides=2, padding=((0, 1), (0, 1)), **kwargs)
        self.time_conv = CausalConv3d(dim, dim, (3, 1, 1), time_stride=2, **kwargs) if time else None

    def __call__(
        self, x: Float[Array, "B T H W C"], past: Float[Array, "B 1 H/2 W/2 C"] | tuple | None, split: Layout
    ) -> tuple[Float[Array, "B T/2 H/2 W/2 C"], Float[Array, "B 1 H/2 W/2 C"] | tuple]:
        x = split_pictures(self.resample(x), split)
        if self.time_conv is None:
            return x, ()
        return (x, self.time_conv.past_of(x, split)) if past is None else self.time_conv(x, past, split)


class Upsample(nnx.Module):
    """(`time`) a convolution over three frames that makes two of each, then nearest x2 and a 3x3 convolution.

    Past: two input frames of the time convolution, of which the video's first frame is none; () without one.
    """

    def __init__(self, dim: int, time: bool, *, rngs: nnx.Rngs, dtype, param_dtype):
        kwargs = dict(rngs=rngs, dtype=dtype, param_dtype=param_dtype)
        self.time_conv = CausalConv3d(dim, 2 * dim, (3, 1, 1), **kwargs) if time else None
        self.resample = nnx.Conv(dim, dim, (3, 3), padding=1, **kwargs)

    def __call__(
        self, x: Float[Array, "B T H W C"], past: Float[Array, "B 2 H W C"] | tuple | None, split: Layout
    ) -> tuple[Float[Array, "B 2T 2H 2W C"], Float[Array, "B 2 H W C"] | tuple]:
        new_past = ()
        if self.time_conv is not None:
            if past is None:
                new_past = self.time_conv.past_of(jnp.zeros_like(x), split)
            else:
                x, new_past = self.time_conv(x, past, split)
                x = rearrange(x, "b t h w (two c) -> b (t two) h w c", two=2)
        x = split_pictures(repeat(x, "b t h w c -> b t (h 2) (w 2) c"), split)
        return split_pictures(self.resample(x), split), new_past


def average_down(
    x: Float[Array, "B T H W C"], out_dim: int, time: int, space: int
) -> Float[Array, "B T/time H/space W/space D"]:
    """Every block of (channel, time, row, column offset), flattened in this order, averaged in consecutive
    groups down to `out_dim` channels. Frames too few for a block get zero frames in front."""
    x = jnp.pad(x, ((0, 0), (-x.shape[1] % time, 0), (0, 0), (0, 0), (0, 0)))
    blocks = rearrange(x, "b (f t) (h y) (w x) c -> b f h w (c t y x)", t=time, y=space, x=space)
    return reduce(blocks, "b f h w (d group) -> b f h w d", "mean", d=out_dim)


def repeat_up(
    x: Float[Array, "B T H W C"], out_dim: int, time: int, space: int
) -> Float[Array, "B T*time H*space W*space D"]:
    """Channels repeated consecutively and read as (out channel, time, row, column offset): the counterpart of
    `average_down`. C is a multiple of D."""
    # Each output channel is made of `ratio` input channels, which share the offsets evenly. Repeating them
    # along a last axis of their own is the same, but a TPU pads that axis to 128 (25 GB at 640x640).
    offsets, ratio = time * space**2, x.shape[-1] // out_dim
    parts = [x[..., i::ratio] for i in range(ratio)]
    blocks = jnp.stack([parts[offset * ratio // offsets] for offset in range(offsets)])
    return rearrange(blocks, "(t y x) b f h w d -> b (f t) (h y) (w x) d", t=time, y=space, x=space)
