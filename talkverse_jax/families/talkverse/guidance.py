"""What guidance means for TalkVerse: towards prompt and sound, away from the negative prompt in silence.

Shapes: B samples, T audio rows, A audio width, h w latent grid, C latent channels.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from talkverse_jax.diffusion.guidance import CLASSIFIER_FREE, PLAIN, Guidance
from talkverse_jax.diffusion.sparing import Computed, spare
from talkverse_jax.families.talkverse.settings import Settings


class Branches(NamedTuple):
    """The inputs of `TalkVerse.prepare`, all samples' conditional branch first, then their unconditional one."""

    text: Float[Array, "R text_len text_dim"]
    audio: Float[Array, "R T layers A"]
    reference: Float[Array, "R 1 h w C"]
    motion: Float[Array, "R M h w C"] | None


def guidance(guided: bool) -> Guidance:
    """Classifier-free guidance, or the conditional branch alone."""
    return CLASSIFIER_FREE if guided else PLAIN


def computed(settings: Settings, steps: int) -> list[Computed]:
    """What each of a clip's steps computes."""
    begin, end = settings.sample_window
    guide_every = settings.sample_guide_every if settings.guided else 1
    return spare(steps, model_every=settings.sample_model_every, guide_every=guide_every, window=(begin, end))


def branches(
    text: Float[Array, "B text_len text_dim"],
    negative_text: Float[Array, "B text_len text_dim"],
    audio: Float[Array, "B T layers A"],
    reference: Float[Array, "B 1 h w C"],
    motion: Float[Array, "B M h w C"] | None,
    guided: bool,
) -> Branches:
    """The unconditional branch hears silence (zero features) and keeps the reference and the motion."""
    if not guided:
        return Branches(text, audio, reference, motion)
    return Branches(
        jnp.concatenate([text, negative_text]),
        jnp.concatenate([audio, jnp.zeros_like(audio)]),
        jnp.concatenate([reference, reference]),
        None if motion is None else jnp.concatenate([motion, motion]),
    )
