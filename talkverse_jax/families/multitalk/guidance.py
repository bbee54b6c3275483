"""What guidance means for MultiTalk: by the words, and by the sound, each with a scale of its own.

A branch leaves out the words (the negative prompt in their place), another the sound too (silence of one speaker). Of
distilled models, whose text scale is 1, words are not guided by: two branches are left; or one, where the sound's scale
is 1 too.

Adaptive projected guidance (APG, Sadat et al. 2024, arXiv:2410.02416) takes of each difference what is at right angles
to the video, cuts its length, and carries a running sum.

Shapes: B samples, F latent frames, h w latent grid, C latent channels.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from talkverse_jax.diffusion.guidance import PLAIN, Guidance, Velocity
from talkverse_jax.diffusion.sparing import Computed, spare
from talkverse_jax.families.multitalk.settings import Settings


class GuidanceScales(NamedTuple):
    """Numbers of guidance; those of APG are not used without it.

    Attributes:
      momentum: of the running sums; below 0 it is taken back.
      longest: of a difference; 0 sets no limit.
    """

    text: Float[Any, ""] | float
    audio: Float[Any, ""] | float
    momentum: Float[Any, ""] | float = 0.0
    longest: Float[Any, ""] | float = 0.0


class Running(NamedTuple):
    """Sums of the differences of a clip's steps."""

    text: Velocity
    audio: Velocity


def _by_both(velocities: Sequence[Velocity], scales: GuidanceScales, state: None) -> tuple[Velocity, None]:
    full, wordless, silent = velocities
    return silent + scales.text * (full - wordless) + scales.audio * (wordless - silent), state


def _by_sound(velocities: Sequence[Velocity], scales: GuidanceScales, state: None) -> tuple[Velocity, None]:
    full, silent = velocities
    return silent + scales.audio * (full - silent), state


def _projected_by_both(
    velocities: Sequence[Velocity], scales: GuidanceScales, state: Running
) -> tuple[Velocity, Running]:
    full, wordless, silent = velocities
    text = full - wordless + scales.momentum * state.text
    audio = wordless - silent + scales.momentum * state.audio
    by_text, by_sound = (_beside(_shortened(d, scales.longest), full) for d in (text, audio))
    return full + (scales.text - 1) * by_text + (scales.audio - 1) * by_sound, Running(text, audio)


def _projected_by_sound(
    velocities: Sequence[Velocity], scales: GuidanceScales, state: Running
) -> tuple[Velocity, Running]:
    full, silent = velocities
    audio = full - silent + scales.momentum * state.audio
    by_sound = _beside(_shortened(audio, scales.longest), full)
    return full + (scales.audio - 1) * by_sound, state._replace(audio=audio)


def _nothing_yet(latents: Velocity) -> Running:
    return Running(jnp.zeros_like(latents), jnp.zeros_like(latents))


BOTH = Guidance(3, _by_both)
SOUND = Guidance(2, _by_sound)
PROJECTED_BOTH = Guidance(3, _projected_by_both, _nothing_yet)
PROJECTED_SOUND = Guidance(2, _projected_by_sound, _nothing_yet)


def guidance(branches: int, projected: bool) -> Guidance:
    """The way of guiding; `branches` says how many rows a sample has: of everything, without the words, and without
    the sound too; or of everything and without the sound; or of everything."""
    if branches == 1:
        return PLAIN
    if branches == 3:
        return PROJECTED_BOTH if projected else BOTH
    return PROJECTED_SOUND if projected else SOUND


def scales(settings: Settings) -> GuidanceScales:
    """The numbers that a person set."""
    of_both = settings.sample_text_guide_scale, settings.sample_audio_guide_scale
    return GuidanceScales(*of_both, settings.apg_momentum, settings.apg_norm_threshold)


def fewest_branches(settings: Settings) -> int:
    """Of the steps that run the transformer."""
    return 1 if settings.sample_guide_every > 1 else settings.branches


def spared(settings: Settings) -> list[Computed]:
    """What each step computes, but for TeaCache."""
    every = dict(model_every=settings.sample_model_every, guide_every=settings.sample_guide_every)
    begin, end = settings.sample_window
    return spare(settings.sample_steps, **every, window=(begin, end))


def _shortened(difference: Velocity, longest: Float[Array, ""] | float) -> Velocity:
    """No longer than that, each sample by itself."""
    length = jnp.sqrt(_dot(difference, difference))
    share = jnp.minimum(1, longest / jnp.maximum(length, 1e-12))
    return difference * jnp.where(longest > 0, share, 1)


def _beside(difference: Velocity, velocity: Velocity) -> Velocity:
    """The part at right angles to the velocity."""
    length = jnp.maximum(_dot(velocity, velocity), 1e-24)
    return difference - _dot(difference, velocity) / length * velocity


def _dot(one: Velocity, other: Velocity) -> Float[Array, "B 1 1 1 1"]:
    """Of each sample. The sum is taken axis by axis: float32 keeps its digits so over millions of numbers."""
    product = one * other
    for axis in (4, 3, 2, 1):
        product = product.sum(axis=axis, keepdims=True)
    return product
