"""Encoder and decoder of the Wan2.2 autoencoder, chunk by chunk.

Shapes: B batch, T frames of the chunk, H W rows and columns (after the 2x2 pixel unshuffle),
h w latent grid, z latent channels, C channels in, D channels out.
"""

import itertools
from typing import NamedTuple

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from talkverse_jax.models.vae.config import VAEConfig
from talkverse_jax.models.vae.layers import (
    AttentionBlock,
    CausalConv3d,
    Chunk,
    Head,
    Past,
    ResidualBlock,
    run_layers,
)
from talkverse_jax.models.vae.resample import Downsample, Upsample, average_down, repeat_up

PIXEL_CHANNELS = 12  # three colours in blocks of 2x2 pixels


class Cache(NamedTuple):
    """What an encoder or a decoder remembers between two chunks: the pasts of its parts (see layers.py).

    In all two frames of the input of every convolution over frames, in the convolutions' dtype. None, as
    before the first chunk, stands for zeros.
    """

    conv_in: Float[Array, "B 2 H W C"] | None = None
    levels: tuple[tuple[Past, ...], ...] | None = None
    middle: tuple[Past, ...] | None = None
    head: Float[Array, "B 2 H W C"] | None = None


class _Level(nnx.Module):
    """Residual blocks and, where a resampler class is given, one of it at the end."""

    def __init__(self, in_dim: int, out_dim: int, num_blocks: int, resampler, time: bool, **kwargs):
        self.out_dim = out_dim
        self.time, self.space = 1 + time, 2 if resampler else 1
        dims = (in_dim, *[out_dim] * num_blocks)
        layers = [ResidualBlock(*pair, **kwargs) for pair in itertools.pairwise(dims)]
        if resampler:
            layers.append(resampler(out_dim, time, **kwargs))
        self.layers = nnx.List(layers)


class DownLevel(_Level):
    """A level of the encoder, with a shortcut around the whole."""

    def __call__(
        self, x: Float[Array, "B T H W C"], past: tuple[Past, ...] | None, chunk: Chunk
    ) -> tuple[Float[Array, "B T/time H/space W/space D"], tuple[Past, ...]]:
        y, past = run_layers(self.layers, x, past, chunk)
        shortcut = average_down(chunk.without_padding(x), self.out_dim, self.time, self.space)
        return y.astype(jnp.float32) + shortcut, past


class UpLevel(_Level):
    """A level of the decoder, with a shortcut around the whole where it upsamples."""

    def __call__(
        self, x: Float[Array, "B T H W C"], past: tuple[Past, ...] | None, chunk: Chunk
    ) -> tuple[Float[Array, "B T*time H*space W*space D"], tuple[Past, ...]]:
        y, past = run_layers(self.layers, x, past, chunk)
        if self.space == 1:
            return y, past
        shortcut = repeat_up(x, self.out_dim, self.time, self.space)
        return y.astype(jnp.float32) + shortcut, past


class Encoder(nnx.Module):
    """Unshuffled pixels to the moments of the latents, in groups of `time_stride` frames."""

    def __init__(self, config: VAEConfig, *, rngs: nnx.Rngs, dtype, param_dtype):
        kwargs = dict(rngs=rngs, dtype=dtype, param_dtype=param_dtype)
        dims = [config.dim * multiple for multiple in (1, *config.dim_mult)]
        resamplers = [(Downsample, time) for time in config.temporal_downsample] + [(None, False)]
        self.conv_in = CausalConv3d(PIXEL_CHANNELS, dims[0], (3, 3, 3), **kwargs)
        self.levels = nnx.List(
            DownLevel(*pair, config.num_res_blocks, *resampler, **kwargs)
            for pair, resampler in zip(itertools.pairwise(dims), resamplers, strict=True)
        )
        self.middle = _middle(dims[-1], **kwargs)
        self.head = Head(dims[-1], 2 * config.z_dim, **kwargs)

    def __call__(
        self, x: Float[Array, "B T H W 12"], cache: Cache | None, chunk: Chunk
    ) -> tuple[Float[Array, "B T/stride h w 2z"], Cache]:
        conv_in, levels, middle, head = cache or Cache()
        x, conv_in = self.conv_in(x, conv_in, chunk)
        x, levels = run_layers(self.levels, x, levels, chunk)
        x, middle = run_layers(self.middle, x, middle, chunk)
        x, head = self.head(x, head, chunk)
        return x, Cache(conv_in, levels, middle, head)


class Decoder(nnx.Module):
    """Latents to unshuffled pixels, `time_stride` frames of each latent frame."""

    def __init__(self, config: VAEConfig, *, rngs: nnx.Rngs, dtype, param_dtype):
        kwargs = dict(rngs=rngs, dtype=dtype, param_dtype=param_dtype)
        dims = [config.dec_dim * multiple for multiple in (config.dim_mult[-1], *reversed(config.dim_mult))]
        resamplers = [(Upsample, time) for time in reversed(config.temporal_downsample)] + [(None, False)]
        self.conv_in = CausalConv3d(config.z_dim, dims[0], (3, 3, 3), **kwargs)
        self.middle = _middle(dims[0], **kwargs)
        self.levels = nnx.List(
            UpLevel(*pair, config.num_res_blocks + 1, *resampler, **kwargs)
            for pair, resampler in zip(itertools.pairwise(dims), resamplers, strict=True)
        )
        self.head = Head(dims[-1], PIXEL_CHANNELS, **kwargs)

    def __call__(
        self, x: Float[Array, "B T h w z"], cache: Cache | None, chunk: Chunk
    ) -> tuple[Float[Array, "B T*stride H W 12"], Cache]:
        conv_in, levels, middle, head = cache or Cache()
        x, conv_in = self.conv_in(x, conv_in, chunk)
        x, middle = run_layers(self.middle, x, middle, chunk)
        x, levels = run_layers(self.levels, x, levels, chunk)
        x, head = self.head(x, head, chunk)
        return x, Cache(conv_in, levels, middle, head)


def _middle(dim: int, **kwargs) -> nnx.List:
    """Residual block, attention, residual block."""
    return nnx.List(
        [ResidualBlock(dim, dim, **kwargs), AttentionBlock(dim, **kwargs), ResidualBlock(dim, dim, **kwargs)]
    )
