"""The floating-point operations of the video autoencoders, from their sizes alone.

Convolutions and attention; a multiply-add is two. A convolution counts the products with pixels, not those with the
zeros around them. What a program computes besides (borders computed twice) is its waste.

Shapes: T frames, F latent frames, H W pixel rows and columns, h w latent grid.
"""

from talkverse_jax.models.vae.config import VAEConfig
from talkverse_jax.ops.flops import attention, convolution, linear


def encode_flops(config: VAEConfig, frames: int, height: int, width: int) -> int:
    """The encoder on a video of `frames` frames of `height` x `width` pixels."""
    rest = config.latent_frames(frames) - 1
    first, later = (_encode_chunk(config, height, width, is_first) for is_first in (True, False))
    return first + rest * later


def decode_flops(config: VAEConfig, frames: int, h: int, w: int) -> int:
    """The decoder on `frames` latent frames, those included whose pictures are dropped."""
    first, later = (_decode_chunk(config, h, w, is_first) for is_first in (True, False))
    return first + (frames - 1) * later


def _encode_chunk(config: VAEConfig, height: int, width: int, first: bool) -> int:
    """One latent frame's worth of pixels; the first frame of a video meets one tap in time of three."""
    t, taps = (1, 1) if first else (config.time_stride, 3)
    h, w, levels = height // config.pixel_patch, width // config.pixel_patch, config.encoder_levels
    total = convolution(t, h, w, config.pixel_channels, levels[0].in_dim, taps)
    for sizes in levels:
        total += _residual_blocks(t, h, w, sizes.in_dim, sizes.dim, sizes.blocks, taps)
        if sizes.space > 1:
            h, w = h // sizes.space, w // sizes.space
            total += 2 * t * (3 * h - 1) * (3 * w - 1) * sizes.dim * sizes.out_dim  # zeros on one side only
        if sizes.time > 1 and not first:
            t //= sizes.time
            total += convolution(t, h, w, sizes.out_dim, sizes.out_dim, 3, size=1)
    last = levels[-1].out_dim
    total += _middle(t, h, w, last, taps) + convolution(t, h, w, last, 2 * config.z_dim, taps)
    return total + linear(t * h * w, 2 * config.z_dim, config.z_dim)


def _decode_chunk(config: VAEConfig, h: int, w: int, first: bool) -> int:
    """One latent frame."""
    t, taps, levels = 1, 1 if first else 3, config.decoder_levels
    start = levels[0].in_dim
    total = linear(h * w, config.z_dim, config.z_dim) + convolution(t, h, w, config.z_dim, start, taps)
    total += _middle(t, h, w, start, taps)
    for sizes in levels:
        total += _residual_blocks(t, h, w, sizes.in_dim, sizes.dim, sizes.blocks, taps)
        if sizes.time > 1 and not first:
            total += convolution(t, h, w, sizes.dim, sizes.time * sizes.dim, 3, size=1)
            t *= sizes.time
        if sizes.space > 1:
            h, w = h * sizes.space, w * sizes.space
            total += convolution(t, h, w, sizes.dim, sizes.out_dim, 1)
    return total + convolution(t, h, w, levels[-1].out_dim, config.pixel_channels, taps)


def _residual_blocks(t: int, h: int, w: int, in_dim: int, dim: int, blocks: int, taps: int) -> int:
    """Residual blocks one after the other, of which the first may change the channels."""
    shortcut = linear(t * h * w, in_dim, dim) if in_dim != dim else 0
    return convolution(t, h, w, in_dim, dim, taps) + (2 * blocks - 1) * convolution(t, h, w, dim, dim, taps) + shortcut


def _middle(t: int, h: int, w: int, dim: int, taps: int) -> int:
    """Residual block, attention, residual block."""
    frame = linear(h * w, dim, 4 * dim) + attention(h * w, h * w, dim)
    return _residual_blocks(t, h, w, dim, dim, 2, taps) + t * frame
