"""A batch of MultiTalk's training, and what a clip of it holds, shows and hears.

Shapes: B samples, F latent frames, G those but the first, h w latent grid, C latent channels, Y known channels, S
speakers, Q these and the background, A audio width, I tokens of a picture, E their width.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, UInt

from talkverse_jax.data.prepared import PreparedBatch
from talkverse_jax.families.multitalk.audio import AudioWindows
from talkverse_jax.families.multitalk.clips import known_frames
from talkverse_jax.families.multitalk.config import MultiTalkConfig
from talkverse_jax.families.multitalk.timeline import heard


class MultiTalkBatch(NamedTuple):
    """Encoded windows of one size. All but `null_text` have the samples first.

    Attributes:
      latents: normalised, of all frames.
      known: of the frames that the condition shows, before grey.
      image: CLIP's tokens of the last of these.
      audio: wav2vec2 hidden states, a row a frame but the last; zeros of speakers who are not there.
      first: 1 where the window is a video's first clip.
      alone: 1 where one person speaks, the first.
      places: 1 where each speaker is and, last, where none is.
      text: hidden states of the caption, zero behind its end.
      null_text: those of the empty caption, which takes its place where text is dropped.
      face, body: 1 where the loss counts more, of the latent frames behind the first.
      weight: of a sample in the loss; 0 where there is none.
      ids: epoch and sample number, of which everything random is a function.
    """

    latents: Float[Array, "B F h w C"]
    known: Float[Array, "B F h w C"]
    image: Float[Array, "B I E"]
    audio: Float[Array, "B S rows layers A"]
    first: UInt[Array, "B 1"]
    alone: UInt[Array, "B 1"]
    places: UInt[Array, "B Q h w"]
    text: Float[Array, "B text_len text_dim"]
    face: UInt[Array, "B G h w"]
    body: UInt[Array, "B G h w"]
    null_text: Float[Array, "text_len text_dim"]
    weight: Float[Array, " B"]
    ids: UInt[Array, "B 2"]


def to_batch(samples: PreparedBatch, constants: Mapping[str, Any]) -> MultiTalkBatch:
    """A batch of prepared samples as the loss takes it."""
    rest: dict[str, Any] = {"weight": samples.weights, "ids": samples.ids}
    return MultiTalkBatch(**samples.arrays, **constants, **rest)  # pyright: ignore[reportArgumentType]  # put on devices later


def held(batch: MultiTalkBatch, config: MultiTalkConfig, taken_over: int) -> Bool[Array, "B F"]:
    """Which latent frames are not made anew.

    Args:
      taken_over: latent frames that a later clip has of the one before.
    """
    of_first = 1 if config.recipe == "infinitetalk" else 0
    return jnp.arange(batch.latents.shape[1]) < jnp.where(batch.first > 0, of_first, taken_over)


def shown(batch: MultiTalkBatch, config: MultiTalkConfig, taken_over: int) -> Float[Array, "B F h w Y"]:
    """Which frames the condition shows, and their latents."""
    frames = 1 if config.recipe == "infinitetalk" else 1 + (taken_over - 1) * config.time_stride
    shape = (1, *batch.known.shape[1:])
    one, several = (known_frames(shape, shown, config.time_stride) for shown in (1, frames))
    mask = jnp.where(batch.first[:, :, None, None, None] > 0, one, several)
    return jnp.concatenate([mask, batch.known.astype(jnp.float32)], axis=-1)


def heard_by(audio: Float[Array, "B S rows layers A"], config: MultiTalkConfig, latents: int) -> AudioWindows:
    """What the latent frames hear: a clip begins with the sound's first row, and mirrors what comes behind its end."""
    frames = 1 + (latents - 1) * config.time_stride
    rows = heard(0, frames, audio.shape[2], window=config.audio_window, stride=config.time_stride)
    return AudioWindows(audio[:, :, rows.first], audio[:, :, rows.later])
