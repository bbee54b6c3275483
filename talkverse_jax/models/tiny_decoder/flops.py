"""The floating-point operations of a tiny decoder, from its sizes alone; a multiply-add is two."""

from talkverse_jax.models.tiny_decoder.config import TinyDecoderConfig
from talkverse_jax.ops.flops import convolution, linear


def tiny_decode_flops(config: TinyDecoderConfig, frames: int, h: int, w: int) -> int:
    """Of `frames` latent frames of `h` x `w`, those included whose pictures are dropped."""
    t, total = 1, convolution(1, h, w, config.z_dim, config.dims[0], 1)
    for sizes in config.levels:
        dim = sizes.dim
        total += config.blocks * (convolution(t, h, w, dim, dim, 2) + 2 * convolution(t, h, w, dim, dim, 1))
        total += linear(t * h * w, dim, sizes.time * dim)
        t, h, w = t * sizes.time, 2 * h, 2 * w
        total += convolution(t, h, w, dim, sizes.out_dim, 1)
    return frames * (total + convolution(t, h, w, config.dims[-1], config.pixel_channels, 1))
