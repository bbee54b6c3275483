"""Classifier-free guidance as one batch of two branches."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from talkverse_jax.families.talkverse.model import ClipConditions, TalkVerse


def guidance_batch(text, negative_text, audio, reference, motion, guided: bool):
    """The inputs of `TalkVerse.prepare`, conditional branch first, then the unconditional one.

    The unconditional branch hears silence (zero features) under the negative prompt and keeps the reference
    and the motion. Without guidance there is the conditional branch alone.
    """
    if not guided:
        return text, audio, reference, motion
    text = jnp.concatenate([text, negative_text])
    audio = jnp.concatenate([audio, jnp.zeros_like(audio)])
    reference, motion = (None if x is None else jnp.concatenate([x, x]) for x in (reference, motion))
    return text, audio, reference, motion


def guided_velocity(
    model: TalkVerse,
    latents: Float[Array, "B F h w C"],
    timestep: Float[Array, ""],
    conditions: ClipConditions,
    guide_scale: Float[Array, ""],
) -> Float[Array, "B F h w C"]:
    """u + guide_scale (c - u), or c where the conditions hold the conditional branch alone."""
    branches = conditions.clean_tokens.shape[0] // latents.shape[0]
    constrain = model.layout.constrain
    batch = constrain(jnp.concatenate([latents] * branches), "batch", *[None] * 4)
    velocity = model.velocity(batch, jnp.full((batch.shape[0],), timestep, jnp.float32), conditions)
    velocity = constrain(velocity, *[None] * 5)
    if branches == 1:
        return velocity
    conditional, unconditional = jnp.split(velocity, 2)
    return unconditional + guide_scale * (conditional - unconditional)
