"""What a clip keeps of the one before: its first latent frames are written over in every step (see diffusion.denoise).

Shapes: B samples, F latent frames, h w latent grid, C latent channels.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from talkverse_jax.diffusion.denoise import Latents, Step
from talkverse_jax.diffusion.solvers import fresh_noise


class Renoised(NamedTuple):
    """MultiTalk's way: the known frames are under fresh noise of the step's own level, and clean at the end.

    Attributes:
      latents: of the known frames; what else they hold does not matter.
      mask: 1 where a frame is known.
      noise: in place of what the keys would draw: for the start and after each step.
    """

    latents: Float[Array, "B F h w C"]
    mask: Float[Array, "B F 1 1 1"]
    noise: Float[Array, "B draws F h w C"] | None = None

    def before(self, latents: Latents, step: Step, keys: Key[Array, " B"] | None) -> Latents:
        """The start is written over; other steps find what `after` left."""
        known = self._at(step.coefficients.sigma, 0, keys)
        return jnp.where((self.mask > 0) & (step.number == 0), known, latents)

    def after(self, latents: Latents, step: Step, keys: Key[Array, " B"] | None) -> Latents:
        return jnp.where(self.mask > 0, self._at(step.coefficients.following, step.number + 1, keys), latents)

    def _at(self, level, draw, keys: Key[Array, " B"] | None) -> Latents:
        if self.noise is not None:
            noise = jax.lax.dynamic_index_in_dim(self.noise, draw, axis=1, keepdims=False)
        else:
            assert keys is not None, "the loop was given keys"
            noise = fresh_noise(keys, self.latents.shape)
        return (1 - level) * self.latents + level * noise


class Kept(NamedTuple):
    """InfiniteTalk's way: the known frames are clean at every step."""

    latents: Float[Array, "B F h w C"]
    mask: Float[Array, "B F 1 1 1"]

    def before(self, latents: Latents, step: Step, keys: Key[Array, " B"] | None) -> Latents:
        return jnp.where(self.mask > 0, self.latents, latents)

    def after(self, latents: Latents, step: Step, keys: Key[Array, " B"] | None) -> Latents:
        return jnp.where(self.mask > 0, self.latents, latents)
