"""Encoder and decoder of the video autoencoders, chunk by chunk.

Shapes: B batch, T frames of the chunk, H W rows and columns of blocks of pixels, P channels of a block,
h w latent grid, z latent channels and Z = 2 z of mean and variance, C channels in, D channels out; F h w what a level
makes of T H W.
"""

import itertools
from typing import Any, NamedTuple

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from talkverse_jax.models.vae.config import LevelSizes, VAEConfig
from talkverse_jax.models.vae.layers import (
    AttentionBlock,
    CausalConv3d,
    Chunk,
    CoderHead,
    Past,
    ResidualBlock,
    run_layers,
)
from talkverse_jax.models.vae.resample import Downsample, Upsample, average_down, repeat_up


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
    """Residual blocks and, where rows and columns change, a resampling."""

    resampler: type[Downsample | Upsample]

    def __init__(self, sizes: LevelSizes, shortcut: bool, *, rngs: nnx.Rngs, dtype, param_dtype):
        kwargs: dict[str, Any] = dict(rngs=rngs, dtype=dtype, param_dtype=param_dtype)
        self.out_dim, self.time, self.space, self.shortcut = sizes.out_dim, sizes.time, sizes.space, shortcut
        dims = (sizes.in_dim, *[sizes.dim] * sizes.blocks)
        layers: list[nnx.Module] = [ResidualBlock(*pair, **kwargs) for pair in itertools.pairwise(dims)]
        if sizes.space > 1:
            layers.append(self.resampler(sizes.dim, sizes.out_dim, sizes.time > 1, **kwargs))
        self.layers = nnx.List(layers)


class DownLevel(_Level):
    """A level of the encoder, where the config says so with a shortcut around the whole."""

    resampler = Downsample

    def __call__(
        self, x: Float[Array, "B T H W C"], past: tuple[Past, ...] | None, chunk: Chunk
    ) -> tuple[Float[Array, "B F h w D"], tuple[Past, ...]]:
        y, past = run_layers(self.layers, x, past, chunk)
        if not self.shortcut:
            return y, past
        shortcut = average_down(chunk.without_padding(x), self.out_dim, self.time, self.space)
        return y.astype(jnp.float32) + shortcut, past


class UpLevel(_Level):
    """A level of the decoder, where the config says so with a shortcut around the whole if it upsamples."""

    resampler = Upsample

    def __call__(
        self, x: Float[Array, "B T H W C"], past: tuple[Past, ...] | None, chunk: Chunk
    ) -> tuple[Float[Array, "B F h w D"], tuple[Past, ...]]:
        y, past = run_layers(self.layers, x, past, chunk)
        if not self.shortcut or self.space == 1:
            return y, past
        shortcut = repeat_up(x, self.out_dim, self.time, self.space)
        return y.astype(jnp.float32) + shortcut, past


class Encoder(nnx.Module):
    """Blocks of pixels to the moments of the latents, in groups of `time_stride` frames."""

    def __init__(self, config: VAEConfig, *, rngs: nnx.Rngs, dtype, param_dtype):
        kwargs: dict[str, Any] = dict(rngs=rngs, dtype=dtype, param_dtype=param_dtype)
        levels = config.encoder_levels
        self.conv_in = CausalConv3d(config.pixel_channels, levels[0].in_dim, (3, 3, 3), **kwargs)
        self.levels = nnx.List(DownLevel(sizes, config.shortcuts, **kwargs) for sizes in levels)
        self.middle = _middle(levels[-1].out_dim, **kwargs)
        self.head = CoderHead(levels[-1].out_dim, 2 * config.z_dim, **kwargs)

    def __call__(
        self, x: Float[Array, "B T H W P"], cache: Cache | None, chunk: Chunk
    ) -> tuple[Float[Array, "B F h w Z"], Cache]:
        conv_in, levels, middle, head = cache or Cache()
        x, conv_in = self.conv_in(x, conv_in, chunk)
        x, levels = run_layers(self.levels, x, levels, chunk)
        x, middle = run_layers(self.middle, x, middle, chunk)
        x, head = self.head(x, head, chunk)
        return x, Cache(conv_in, levels, middle, head)


class Decoder(nnx.Module):
    """Latents to blocks of pixels, `time_stride` frames of each latent frame."""

    def __init__(self, config: VAEConfig, *, rngs: nnx.Rngs, dtype, param_dtype):
        kwargs: dict[str, Any] = dict(rngs=rngs, dtype=dtype, param_dtype=param_dtype)
        levels = config.decoder_levels
        self.conv_in = CausalConv3d(config.z_dim, levels[0].in_dim, (3, 3, 3), **kwargs)
        self.middle = _middle(levels[0].in_dim, **kwargs)
        self.levels = nnx.List(UpLevel(sizes, config.shortcuts, **kwargs) for sizes in levels)
        self.head = CoderHead(levels[-1].out_dim, config.pixel_channels, **kwargs)

    def __call__(
        self, x: Float[Array, "B T h w z"], cache: Cache | None, chunk: Chunk
    ) -> tuple[Float[Array, "B F H W P"], Cache]:
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
