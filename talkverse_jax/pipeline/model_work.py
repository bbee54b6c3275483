"""The work of the models that families share (see `pipeline/programs.py`)."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp

from talkverse_jax.models.tiny_decoder.flops import tiny_decode_flops
from talkverse_jax.models.umt5.config import UMT5Config
from talkverse_jax.models.umt5.flops import text_flops
from talkverse_jax.models.vae.config import VAEConfig
from talkverse_jax.models.vae.flops import decode_flops
from talkverse_jax.models.wan.config import WanConfig
from talkverse_jax.ops.attention.xla import SCORE_BYTES
from talkverse_jax.pipeline.decoders import DecoderName, check_decoder
from talkverse_jax.pipeline.programs import Work

SOUND_SECONDS = 60  # of the audio encoder's program


def denoiser_work(
    name: str,
    flops: int,
    times: int,
    *,
    trunk: WanConfig,
    tokens: int,
    dtype: str,
    when: Any = "clip",
    beside: Sequence[str] = ("vae",),
) -> Work:
    """A program of the transformer `dit`.

    Args:
      tokens: of all rows together.
    """
    widest = tokens * (4 * 4 * trunk.dim + 2 * _bytes(dtype) * trunk.ffn_dim)
    return Work(name, flops, times, when, "dit", tuple(beside), dtype == "float32", widest)


def picture_work(
    name: str, flops: int, channels: int, *, vae: VAEConfig, size: tuple[int, int], dtype: str, beside: Sequence[str]
) -> Work:
    """A program of the VAE, once a clip.

    Args:
      channels: of its widest layers.
      size: (H, W) in pixels.
    """
    height, width = size
    pixels = vae.time_stride * (height * width // vae.pixel_patch**2)
    return Work(
        name, flops, 1, "clip", "vae", tuple(beside), dtype == "float32", 10 * pixels * 2 * channels * _bytes(dtype)
    )


def decode_work(
    configs: Any,
    decoder: DecoderName,
    latents: int,
    again: int = 0,
    *,
    size: tuple[int, int],
    dtype: str,
    beside: Sequence[str],
) -> Work:
    """The decoder of a clip.

    Args:
      configs: with those of `vae` and `tiny_decoder`.
      latents: latent frames of the clip.
      again: those of the clip before that are decoded once more.
      size: (H, W) in pixels.

    Raises:
      UserError: there is no such decoder.
    """
    vae, tiny, (height, width) = configs.vae, configs.tiny_decoder, size
    check_decoder(decoder, tiny)
    h, w = height // vae.space_stride, width // vae.space_stride
    if decoder == "full":
        flops = decode_flops(vae, again + latents, h, w)
        return picture_work("decode", flops, vae.dec_dim, vae=vae, size=size, dtype=dtype, beside=beside)
    flops = tiny_decode_flops(tiny, min(again, tiny.reach) + latents, h, w)
    widest = 4 * tiny.time_stride * (height * width // tiny.pixel_patch**2) * tiny.dims[-1] * _bytes(dtype)
    return Work("decode", flops, 1, "clip", "tiny_decoder", ("vae", *beside), dtype == "float32", widest)


def text_work(config: UMT5Config, prompts: int, rows: int, dtype: str) -> Work:
    """The text encoder, once a video."""
    widest = prompts * rows * (4 * 4 * config.dim + 2 * _bytes(dtype) * config.dim_ffn)
    return Work("text encoder", text_flops(config, prompts, rows), 1, "video", "text", (), dtype == "float32", widest)


def sound_work(flops: int, times: int = 1) -> Work:
    """The audio encoder, on `SOUND_SECONDS`, in float32."""
    return Work("audio encoder", flops, times, "video", "audio", (), True, 2 * SCORE_BYTES)


def _bytes(dtype: str) -> int:
    return jnp.dtype(dtype).itemsize
