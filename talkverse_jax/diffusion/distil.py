"""Distribution matching (DMD): the numbers by which a student of few steps learns from a teacher.

A student makes data x. Noised to a level sigma, the teacher says what data it sees there (with its guidance, `guided`),
and so does a critic, which follows what the student makes. The student is pulled from what the critic sees to what the
teacher sees:

    g = (critic - teacher) / mean |x - teacher|            per sample; no gradient passes through it
    loss = mean (x - stop(x - g))^2 / 2                    whose gradient by x is g / (numbers of x)

Sources: Yin et al. 2023, arXiv:2311.18828 (equations 7 and 8), and 2024, arXiv:2405.14867 (DMD2: a critic updated five
times for one update of the student, and roll-outs as the student is sampled); Huang et al. 2025, arXiv:2506.08009
(Self-Forcing).

Shapes: B samples, F latent frames, h w latent grid, C latent channels.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from talkverse_jax.diffusion.flow import moved
from talkverse_jax.diffusion.guidance import Part, Velocity

Latents = Float[Array, "B F h w C"]


class TeacherScales(NamedTuple):
    """The teacher's guidance: as `sample` takes it, so that 1 is none."""

    text: float
    audio: float

    @property
    def parts(self) -> tuple[Part, ...]:
        """Which branches it needs."""
        if self.text == self.audio:
            return ("all",) if self.text == 1 else ("all", "neither")
        return ("all", "wordless", "neither")

    def guided(self, branches: list[Velocity]) -> Velocity:
        """What all of them say together: neither + text (all - wordless) + audio (wordless - neither).

        Args:
          branches: of `parts`.
        """
        if len(branches) == 1:
            return branches[0]
        full, *between, neither = branches
        if not between:
            return neither + self.text * (full - neither)
        [wordless] = between
        return neither + self.text * (full - wordless) + self.audio * (wordless - neither)


class ScoreLevels(NamedTuple):
    """Noise levels at which teacher and critic look: uniform, moved towards noise, and cut off at both ends."""

    shift: float
    lowest: float
    highest: float

    def draw(self, keys: Key[Array, " B"]) -> Float[Array, " B"]:
        """One for each sample."""
        even = jax.vmap(jax.random.uniform)(keys)
        return jnp.clip(moved(even, self.shift), self.lowest, self.highest)


def pull(made: Latents, critic: Latents, teacher: Latents) -> Latents:
    """The gradient of the student's data, each sample's normalised by how far it is from what the teacher sees."""
    distance = jnp.abs(made - teacher).mean(axis=(1, 2, 3, 4), keepdims=True)
    return jax.lax.stop_gradient(jnp.nan_to_num((critic - teacher) / distance))


def pulled(made: Latents, gradient: Latents, weights: Float[Array, "B F h w"] | None = None) -> Float[Array, " B"]:
    """The loss of each sample, whose gradient by `made` is `gradient` over its numbers.

    Args:
      weights: of places; normalised per sample.
    """
    errors = 0.5 * jnp.square(made - jax.lax.stop_gradient(made - gradient)).mean(axis=-1)
    if weights is None:
        return errors.mean(axis=(1, 2, 3))
    return (weights * errors).sum(axis=(1, 2, 3)) / weights.sum(axis=(1, 2, 3))
