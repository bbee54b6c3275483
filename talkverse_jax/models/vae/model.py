"""The Wan2.2 video autoencoder: pixels to normalised latents and back, streamed in chunks.

The result of a video is defined by the stream: one frame first, then groups of `time_stride` (4) frames, each
group one latent frame. `encode` and `decode` scan over the chunks and keep the activations of one alive.

Several devices split the pictures' rows and columns at every resolution (see sharding/pictures.py). The
parameters of a device's share are few while at rest; a program gathers them once, outside its loop.

Shapes: B batch, T frames, F latent frames, H W pixel rows and columns (multiples of `space_stride`, 16),
h w latent grid, z latent channels.
"""

import jax
import jax.numpy as jnp
from einops import rearrange
from flax import nnx
from jaxtyping import Array, Float

from talkverse_jax.models.vae.coders import Cache, Decoder, Encoder
from talkverse_jax.models.vae.axes import AXES
from talkverse_jax.models.vae.config import VAEConfig
from talkverse_jax.models.vae.layers import split_pictures
from talkverse_jax.sharding.layout import Layout
from talkverse_jax.sharding.pictures import split_for


class WanVAE22(nnx.Module):
    """The autoencoder of Wan2.2-TI2V-5B.

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
        layout: Layout = Layout(),
    ):
        kwargs = dict(rngs=rngs, dtype=dtype, param_dtype=param_dtype)
        self.config = config
        self.layout = layout
        self.encoder = Encoder(config, **kwargs)
        self.quant_conv = nnx.Linear(2 * config.z_dim, 2 * config.z_dim, **kwargs)
        self.post_quant_conv = nnx.Linear(config.z_dim, config.z_dim, **kwargs)
        self.decoder = Decoder(config, **kwargs)

    def encode(self, video: Float[Array, "B T H W 3"]) -> Float[Array, "B F h w z"]:
        """The mean of the latents' distribution, normalised; float32.

        F = 1 + (T - 1) // 4; the last (T - 1) % 4 frames are dropped.
        """
        stride, vae = self.config.time_stride, self.layout.gathered(self, AXES)
        video = split_pictures(video, self._split(video, self.config.space_stride))
        first, cache = vae.encode_chunk(video[:, :1])
        groups = self.config.latent_frames(video.shape[1]) - 1
        if groups == 0:
            return first

        def step(cache: Cache, group: Array) -> tuple[Cache, Array]:
            frames = jax.lax.dynamic_slice_in_dim(video, 1 + stride * group, stride, axis=1)
            latents, cache = vae.encode_chunk(frames, cache)
            return cache, latents

        _, rest = jax.lax.scan(step, cache, jnp.arange(groups))
        return jnp.concatenate([first, rearrange(rest, "f b 1 h w z -> b f h w z")], axis=1)

    def decode(self, latents: Float[Array, "B F h w z"], discard: int = 0) -> Float[Array, "B T H W 3"]:
        """The video that normalised latents show, not clamped; float32.

        Args:
          discard: that many latent frames are decoded for what later ones remember of them; the frames they
            show (4 discard - 3) are neither returned nor kept.

        Returns:
          T = 4F - 3 frames, less the discarded ones.

        Raises:
          ValueError: `discard` leaves no latent frame.
        """
        config, total = self.config, latents.shape[1]
        if not 0 <= discard < total:
            raise ValueError(f"discard={discard} of {total} latent frames leaves none")
        start, split = config.pixel_frames(discard), self._split(latents)
        vae, latents = self.layout.gathered(self, AXES), split_pictures(latents, split)
        first, cache = vae.decode_chunk(latents[:, :1])
        if total == 1:
            return first

        # Chunks are written in place, the discarded ones over each other at the front, where the first one
        # kept replaces them: one program for both, and no second copy of the video.
        kept = config.pixel_frames(total) - start
        video = split_pictures(jnp.zeros((first.shape[0], kept, *first.shape[2:]), first.dtype), split)
        video = jax.lax.dynamic_update_slice_in_dim(video, first, 0, axis=1)

        def step(frame: Array, carry: tuple[Array, Cache]) -> tuple[Array, Cache]:
            video, cache = carry
            latent = jax.lax.dynamic_slice_in_dim(latents, frame, 1, axis=1)
            chunk, cache = vae.decode_chunk(latent, cache)
            at = jnp.maximum(config.time_stride * (frame - 1) + 1 - start, 0)
            return jax.lax.dynamic_update_slice_in_dim(video, chunk, at, axis=1), cache

        video, _ = jax.lax.fori_loop(1, total, step, (video, cache))
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
        split = self._split(frames, self.config.space_stride)
        x = rearrange(frames, "b t (h y) (w x) c -> b t h w (c x y)", y=2, x=2)
        moments, cache = self.encoder(x, cache, split)
        mean = self.quant_conv(moments)[..., : self.config.z_dim].astype(jnp.float32)
        latents = (mean - jnp.array(self.config.latent_mean)) / jnp.array(self.config.latent_std)
        return split_pictures(latents, split), cache

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
        split = self._split(latents)
        z = latents * jnp.array(self.config.latent_std) + jnp.array(self.config.latent_mean)
        x, cache = self.decoder(self.post_quant_conv(z), cache, split)
        video = rearrange(x.astype(jnp.float32), "b t h w (c x y) -> b t (h y) (w x) c", y=2, x=2)
        return split_pictures(video, split), cache

    def _split(self, pictures: Float[Array, "B T H W C"], stride: int = 1) -> Layout:
        """How pictures with `stride` pixels a latent are split."""
        batch, _, height, width, _ = pictures.shape
        return split_for(self.layout, batch, height // stride, width // stride)
