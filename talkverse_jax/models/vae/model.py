"""The video autoencoders of Wan2.1 and Wan2.2: pixels to normalised latents and back, streamed in chunks.

The result of a video is defined by the stream: one frame first, then groups of `time_stride` frames, each
group one latent frame. `encode` and `decode` scan over the chunks and keep the activations of one alive.

Several devices split the pictures' rows and columns at every resolution (see sharding/pictures.py). At rest each
holds a part of the parameters; a program gathers them once, outside its loop.

Shapes: B batch, T frames, F latent frames, H W pixel rows and columns (multiples of `space_stride`),
h w latent grid, z latent channels.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from einops import rearrange, repeat
from flax import nnx
from jaxtyping import Array, Float

from talkverse_jax.models.vae.axes import AXES
from talkverse_jax.models.vae.coders import Cache, Decoder, Encoder
from talkverse_jax.models.vae.config import VAEConfig
from talkverse_jax.models.vae.layers import Chunk
from talkverse_jax.sharding.layout import Layout
from talkverse_jax.sharding.pictures import PICTURES, split_for


class WanVAE(nnx.Module):
    """A causal video autoencoder; the config says which.

    Pixels are in [-1, 1], latents normalised by the config's mean and standard deviation. Convolutions run in
    `dtype`; where that is float32, an accelerator multiplies in less unless `jax.default_matmul_precision`
    asks for it.
    """

    def __init__(
        self,
        config: VAEConfig,
        *,
        rngs: nnx.Rngs,
        dtype=jnp.float32,
        param_dtype=jnp.float32,
        decode_dtype=None,
        layout: Layout = Layout(),
    ):
        """
        Args:
          decode_dtype: of the decoder's convolutions; by default `dtype`.
        """
        kwargs: dict[str, Any] = dict(rngs=rngs, dtype=dtype, param_dtype=param_dtype)
        decoding = kwargs | {"dtype": dtype if decode_dtype is None else decode_dtype}
        self.config = config
        self.layout = layout
        self.encoder = Encoder(config, **kwargs)
        self.quant_conv = nnx.Linear(2 * config.z_dim, 2 * config.z_dim, **kwargs)
        self.post_quant_conv = nnx.Linear(config.z_dim, config.z_dim, **kwargs)
        self.decoder = Decoder(config, **decoding)

    def encode(self, video: Float[Array, "B T H W 3"]) -> Float[Array, "B F h w z"]:
        """The mean of the latents' distribution, normalised; float32.

        F = 1 + (T - 1) // time_stride; the last frames, which fill no latent frame, are dropped.
        """
        stride, vae = self.config.time_stride, self.layout.gathered(self, AXES)
        split = self._split(video, self.config.space_stride)
        frames = self.config.latent_frames(video.shape[1])
        if frames == 1:
            return vae.encode_chunk(video[:, :1])[0]
        video = split.constrain(video, *PICTURES)

        def step(cache: Cache, latent: Array) -> tuple[Cache, Array]:
            first = latent == 0
            group = jax.lax.dynamic_slice_in_dim(video, stride * (latent - 1) + 1, stride, axis=1)
            group = jnp.where(first, video[:, :1], group)
            latents, cache = vae._encode(group, cache, Chunk(first, split))
            return cache, latents

        cache = _zeros(lambda: vae._encode(video[:, :stride], None, Chunk(True, split))[1])
        _, latents = jax.lax.scan(step, cache, jnp.arange(frames))
        return split.constrain(rearrange(latents, "f b 1 h w z -> b f h w z"), *PICTURES)

    def decode(self, latents: Float[Array, "B F h w z"], discard: int = 0) -> Float[Array, "B T H W 3"]:
        """The video that normalised latents show, not clamped; float32.

        Args:
          discard: that many latent frames are decoded for what later ones remember of them; the frames they
            show are neither returned nor kept.

        Returns:
          T = time_stride (F - 1) + 1 frames, less the discarded ones.

        Raises:
          ValueError: `discard` leaves no latent frame.
        """
        config, total = self.config, latents.shape[1]
        if not 0 <= discard < total:
            raise ValueError(f"discard={discard} of {total} latent frames leaves none")
        vae, split = self.layout.gathered(self, AXES), self._split(latents)
        if total == 1:
            return vae.decode_chunk(latents)[0]
        latents = split.constrain(latents, *PICTURES)

        # Chunks are written in place, the discarded ones over each other at the front, where the first one
        # kept replaces them: one program for both, and no second copy of the video.
        start = config.pixel_frames(discard)
        kept = config.pixel_frames(total) - start
        batch, _, h, w, _ = latents.shape
        video = jnp.zeros((batch, kept, config.space_stride * h, config.space_stride * w, 3), jnp.float32)

        def step(frame: Array, carry: tuple[Array, Cache]) -> tuple[Array, Cache]:
            video, cache = carry
            first = frame == 0
            latent = jax.lax.dynamic_slice_in_dim(latents, frame, 1, axis=1)
            pixels, cache = vae._decode(latent, cache, Chunk(first, split))
            pixels = jnp.where(first, pixels[:, -1:], pixels)
            at = jnp.maximum(config.time_stride * (frame - 1) + 1 - start, 0)
            return jax.lax.dynamic_update_slice_in_dim(video, pixels, at, axis=1), cache

        cache = _zeros(lambda: vae._decode(latents[:, :1], None, Chunk(True, split))[1])
        video, _ = jax.lax.fori_loop(0, total, step, (split.constrain(video, *PICTURES), cache))
        return video

    def encode_chunk(
        self, frames: Float[Array, "B T H W 3"], cache: Cache | None = None
    ) -> tuple[Float[Array, "B F h w z"], Cache]:
        """The next latent frames of a video, and what its next chunk needs.

        Args:
          frames: the first frame alone, later any number of whole groups of `time_stride` frames.
          cache: what the call before returned; None for the first frame.

        Raises:
          ValueError: another number of frames.
        """
        count, stride = frames.shape[1], self.config.time_stride
        if (count != 1) if cache is None else (count % stride):
            raise ValueError(f"{count} frames: a video is encoded by its first frame, then by {stride}s")
        if cache is None:
            frames = repeat(frames, "b 1 h w c -> b t h w c", t=stride)
        split = self._split(frames, self.config.space_stride)
        return self._encode(frames, cache, Chunk(cache is None, split))

    def decode_chunk(
        self, latents: Float[Array, "B F h w z"], cache: Cache | None = None
    ) -> tuple[Float[Array, "B T H W 3"], Cache]:
        """The next frames of a video, and what its next chunk needs.

        Args:
          latents: the first latent frame alone (it shows one frame), later any number (`time_stride` frames
            each).
          cache: what the call before returned; None for the first latent frame.

        Raises:
          ValueError: the first latent frame is not alone.
        """
        if cache is None and latents.shape[1] != 1:
            raise ValueError(f"{latents.shape[1]} latent frames: the first of a video is decoded alone")
        video, new_cache = self._decode(latents, cache, Chunk(cache is None, self._split(latents)))
        return video[:, -1:] if cache is None else video, new_cache

    def _encode(
        self, frames: Float[Array, "B T H W 3"], cache: Cache | None, chunk: Chunk
    ) -> tuple[Float[Array, "B F h w z"], Cache]:
        patch = self.config.pixel_patch
        x = rearrange(frames, "b t (h y) (w x) c -> b t h w (c x y)", y=patch, x=patch)
        moments, cache = self.encoder(x, cache, chunk)
        mean = self.quant_conv(moments)[..., : self.config.z_dim].astype(jnp.float32)
        latents = (mean - jnp.array(self.config.latent_mean)) / jnp.array(self.config.latent_std)
        return chunk.keep_split(latents), cache

    def _decode(
        self, latents: Float[Array, "B F h w z"], cache: Cache | None, chunk: Chunk
    ) -> tuple[Float[Array, "B T H W 3"], Cache]:
        z = latents * jnp.array(self.config.latent_std) + jnp.array(self.config.latent_mean)
        x, cache = self.decoder(self.post_quant_conv(z), cache, chunk)
        patch = self.config.pixel_patch
        video = rearrange(x.astype(jnp.float32), "b t h w (c x y) -> b t (h y) (w x) c", y=patch, x=patch)
        return chunk.keep_split(video), cache

    def _split(self, pictures: Float[Array, "B T H W C"], stride: int = 1) -> Layout:
        """How pictures with `stride` pixels a latent are split."""
        batch, _, height, width, _ = pictures.shape
        return split_for(self.layout, batch, height // stride, width // stride)


def _zeros(function: Callable[[], Cache]) -> Cache:
    """Zeros in the place of what a function returns, which is not computed."""
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(function))
