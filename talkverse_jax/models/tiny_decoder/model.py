"""A tiny causal decoder: normalised latents to pixels at about a two-hundredth of the work of the VAE's own.

It shows what its latents show, less sharply: for previews and for video as it is made. Its layers see single frames,
and the frame before in nine places; so a video is decoded in pieces of any length, with one frame of each of these
kept between two, and comes out the same.

Shapes: B batch, F latent frames, T frames, H W pixel rows and columns, h w latent grid, z latent channels.
"""

from typing import Any

import jax
import jax.numpy as jnp
from einops import rearrange
from flax import nnx
from jaxtyping import Array, Float

from talkverse_jax.models.tiny_decoder.axes import AXES
from talkverse_jax.models.tiny_decoder.config import TinyDecoderConfig
from talkverse_jax.models.tiny_decoder.layers import Growth, PictureConv
from talkverse_jax.sharding.layout import Layout
from talkverse_jax.sharding.pictures import PICTURES, split_for

Memories = tuple[tuple[Float[Array, "B 1 _ _ _"], ...], ...]  # by level, as of `Growth`
_SOFT = 3.0  # latents are bounded by it, smoothly


class TinyDecoder(nnx.Module):
    """Takes latents as the diffusion model makes them, normalised; pixels are about in [-1, 1]. All products and the
    stream between layers are of `dtype`.

    Several devices split the pictures as they do those of the VAE (sharding/pictures.py).
    """

    def __init__(
        self,
        config: TinyDecoderConfig,
        *,
        rngs: nnx.Rngs,
        dtype=jnp.float32,
        param_dtype=jnp.float32,
        layout: Layout = Layout(),
    ):
        kwargs: dict[str, Any] = dict(rngs=rngs, dtype=dtype, param_dtype=param_dtype)
        self.config, self.layout, self.dtype = config, layout, dtype
        self.conv_in = PictureConv(config.z_dim, config.dims[0], **kwargs)
        self.levels = nnx.List(Growth(sizes, config.blocks, **kwargs) for sizes in config.levels)
        self.conv_out = PictureConv(config.dims[-1], config.pixel_channels, **kwargs)

    def decode(self, latents: Float[Array, "B F h w z"], discard: int = 0) -> Float[Array, "B T H W 3"]:
        """The video that latents show, not clamped; float32.

        Args:
          discard: of the first so many latent frames only what later ones remember is wanted.

        Returns:
          T = time_stride (F - 1) + 1 frames, less those that the discarded latent frames show.

        Raises:
          ValueError: `discard` leaves no latent frame.
        """
        config, total = self.config, latents.shape[1]
        if not 0 <= discard < total:
            raise ValueError(f"discard={discard} of {total} latent frames leaves none")
        unseen = max(0, discard - config.reach)
        latents, discard, total = latents[:, unseen:], discard - unseen, total - unseen
        if total == 1:
            return self.decode_chunk(latents)[0]
        decoder, split = self.layout.gathered(self, AXES), self._split(latents)
        latents, stride = split.constrain(latents, *PICTURES), config.time_stride
        lost = 0 if discard else stride - 1  # of the first latent frame, which shows one
        batch, _, h, w, _ = latents.shape
        shape = (batch, stride * (total - discard) - lost, config.space_stride * h, config.space_stride * w, 3)

        # Frames are written in place, those that nobody sees over each other at the front.
        def step(frame: Array, carry: tuple[Array, Memories]) -> tuple[Array, Memories]:
            video, memories = carry
            latent = jax.lax.dynamic_slice_in_dim(latents, frame, 1, axis=1)
            pixels, memories = decoder._decode(latent, memories, split)
            if lost:
                pixels = jnp.where(frame == 0, pixels[:, -1:], pixels)
            at = jnp.maximum(stride * (frame - discard) - lost, 0)
            return jax.lax.dynamic_update_slice_in_dim(video, pixels, at, axis=1), memories

        video = split.constrain(jnp.zeros(shape, jnp.float32), *PICTURES)
        video, _ = jax.lax.fori_loop(0, total, step, (video, self._nothing(latents, split)))
        return video

    def decode_chunk(
        self, latents: Float[Array, "B F h w z"], memories: Memories | None = None
    ) -> tuple[Float[Array, "B T H W 3"], Memories]:
        """The next frames of a video, not clamped, in float32, and what the next call needs.

        Args:
          memories: what the call before returned; None at the video's beginning, where the first latent frame shows
            one frame, as all others show `time_stride`.
        """
        decoder, split = self.layout.gathered(self, AXES), self._split(latents)
        latents, begins = split.constrain(latents, *PICTURES), memories is None
        video, memories = decoder._decode(latents, memories or self._nothing(latents, split), split)
        return video[:, self.config.time_stride - 1 :] if begins else video, memories

    def _decode(
        self, latents: Float[Array, "B F h w z"], memories: Memories, split: Layout
    ) -> tuple[Float[Array, "B T H W 3"], Memories]:
        x = (_SOFT * jnp.tanh(latents.astype(jnp.float32) / _SOFT)).astype(self.dtype)
        x, kept = jax.nn.relu(self.conv_in(x, split)), []
        for level, memory in zip(self.levels, memories, strict=True):
            x, memory = level(x, memory, split)
            kept.append(memory)
        x = self.conv_out(jax.nn.relu(x), split).astype(jnp.float32)
        patch = self.config.pixel_patch
        video = rearrange(x, "b t h w (c y x) -> b t (h y) (w x) c", y=patch, x=patch)
        return split.constrain(2 * video - 1, *PICTURES), tuple(kept)

    def _nothing(self, latents: Float[Array, "B F h w z"], split: Layout) -> Memories:
        """The memories before a video: zeros."""
        batch, _, h, w, _ = latents.shape
        found = []
        for level, sizes in enumerate(self.config.levels):
            shape = (batch, 1, h << level, w << level, sizes.dim)
            zeros = split.constrain(jnp.zeros(shape, self.dtype), *PICTURES)
            found.append((zeros,) * self.config.blocks)
        return tuple(found)

    def _split(self, latents: Float[Array, "B F h w z"]) -> Layout:
        return split_for(self.layout, latents.shape[0], *latents.shape[2:4])
