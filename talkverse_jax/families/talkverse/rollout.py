"""The clips of a training window, as distillation rolls them out (see diffusion/rollout.py).

A window of several clips is one stretch of latents. What is before a clip are the last 19 latent frames: of the data,
or of what the student has made, as if it had been decoded and encoded again.

Shapes: B samples, F latent frames of a clip, M of what is before, h w latent grid, C latent channels.
"""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from talkverse_jax.core.errors import UserError
from talkverse_jax.diffusion.distil import Latents
from talkverse_jax.diffusion.guidance import Part
from talkverse_jax.families.talkverse.batch import TrainingBatch
from talkverse_jax.families.talkverse.components import ModelConfigs
from talkverse_jax.families.talkverse.model import ClipConditions, TalkVerse
from talkverse_jax.families.talkverse.settings import TrainingSettings

Motion = Float[Array, "B M h w C"]


@dataclasses.dataclass(frozen=True)
class TalkVerseRollout:
    """Clips of equal length, one behind the other.

    Attributes:
      frames: latent frames of a clip.
      stride: frames of a latent frame, each with a row of sound.
    """

    count: int
    frames: int
    stride: int

    def shape(self, batch: TrainingBatch) -> tuple[int, int, int, int]:
        _, _, height, width, channels = batch.target.shape
        return self.frames, height, width, channels

    def before(self, batch: TrainingBatch, clip: Int[Array, ""] | int) -> Motion:
        whole = jnp.concatenate([batch.motion, batch.target], axis=1).astype(jnp.float32)
        return jax.lax.dynamic_slice_in_dim(whole, clip * self.frames, batch.motion.shape[1], axis=1)

    def after(self, batch: TrainingBatch, clip: Int[Array, ""], before: Motion, latents: Latents) -> Motion:
        del batch, clip
        return jnp.concatenate([before, latents], axis=1)[:, -before.shape[1] :]

    def conditions(
        self, model: TalkVerse, batch: TrainingBatch, clip: Int[Array, ""] | int, before: Motion, parts: Sequence[Part]
    ) -> ClipConditions:
        """Words are left out by the empty caption, sound by silence; picture and motion stay, as in sampling."""
        rows = self.frames * self.stride
        sound = jax.lax.dynamic_slice_in_dim(batch.audio, clip * rows, rows, axis=1)
        wordless = jnp.broadcast_to(batch.null_text, batch.text.shape)
        return model.prepare(
            jnp.concatenate([batch.text if part == "all" else wordless for part in parts]),
            jnp.concatenate([jnp.zeros_like(sound) if part == "neither" else sound for part in parts]),
            jnp.concatenate([batch.reference] * len(parts)),
            jnp.concatenate([before] * len(parts)),
        )

    def hold(self, batch: TrainingBatch, before: Motion) -> None:
        """Every place is made anew."""

    def weights(self, batch: TrainingBatch) -> None:
        """All places count alike."""


def clips_of(configs: ModelConfigs, settings: TrainingSettings, num_frames: int, clip_frames: int) -> TalkVerseRollout:
    """The clips of a window.

    Args:
      num_frames: to be learnt of a window, in the video.
      clip_frames: of a clip.

    Raises:
      UserError: a window is no whole number of clips, or a clip no whole number of latent frames.
    """
    del settings  # none of them matters
    stride = configs.vae.time_stride
    if clip_frames % stride or num_frames % clip_frames:
        raise UserError(
            f"{clip_frames}: give a multiple of {stride} of which --num_frames {num_frames} is a multiple",
            field="clip_frames",
        )
    return TalkVerseRollout(num_frames // clip_frames, clip_frames // stride, stride)
