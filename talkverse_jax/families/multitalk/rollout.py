"""The clip of a training window, as distillation rolls it out (see diffusion/rollout.py).

A window is one clip: what the next one would see is a picture, and no latents.

Shapes: B samples, F latent frames, h w latent grid, C latent channels.
"""

import dataclasses
from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from talkverse_jax.core.errors import UserError
from talkverse_jax.diffusion.distil import Latents
from talkverse_jax.diffusion.guidance import Part
from talkverse_jax.families.multitalk.batch import MultiTalkBatch, heard_by, held, shown
from talkverse_jax.families.multitalk.components import MultiTalkConfigs
from talkverse_jax.families.multitalk.config import MultiTalkConfig
from talkverse_jax.families.multitalk.model import MultiTalk, MultiTalkConditions
from talkverse_jax.families.multitalk.motion import Kept, Renoised
from talkverse_jax.families.multitalk.settings import TrainingSettings, WindowSettings


@dataclasses.dataclass(frozen=True)
class MultiTalkRollout:
    """One clip a window.

    Attributes:
      taken_over: latent frames that a later clip has of the one before.
    """

    config: MultiTalkConfig
    taken_over: int
    count: int = 1

    def shape(self, batch: MultiTalkBatch) -> tuple[int, int, int, int]:
        _, frames, height, width, channels = batch.latents.shape
        return frames, height, width, channels

    def before(self, batch: MultiTalkBatch, clip: Int[Array, ""] | int) -> None:
        """The batch has it."""

    def after(self, batch: MultiTalkBatch, clip: Int[Array, ""], before: None, latents: Latents) -> None:
        """There is no other clip."""

    def conditions(
        self, model: MultiTalk, batch: MultiTalkBatch, clip: Int[Array, ""] | int, before: None, parts: Sequence[Part]
    ) -> MultiTalkConditions:
        """Words are left out by the empty caption, sound by silence of one speaker; pictures stay, as in sampling."""
        del clip, before
        repeated = lambda x: jnp.concatenate([x] * len(parts))  # noqa: E731
        wordless = jnp.broadcast_to(batch.null_text, batch.text.shape)
        audio = [jnp.zeros_like(batch.audio) if part == "neither" else batch.audio for part in parts]
        alone = [(batch.alone[:, 0] > 0) | (part == "neither") for part in parts]
        return model.prepare(
            jnp.concatenate([batch.text if part == "all" else wordless for part in parts]),
            repeated(batch.image),
            repeated(shown(batch, self.config, self.taken_over)),
            heard_by(jnp.concatenate(audio), self.config, batch.latents.shape[1]),
            repeated(batch.places.astype(jnp.float32)) if batch.audio.shape[1] > 1 else None,
            jnp.concatenate(alone),
        )

    def hold(self, batch: MultiTalkBatch, before: None) -> Kept | Renoised:
        how = Kept if self.config.recipe == "infinitetalk" else Renoised
        return how(batch.latents.astype(jnp.float32), self._held(batch)[:, :, None, None, None])

    def weights(self, batch: MultiTalkBatch) -> Float[Array, "B F h w"]:
        return jnp.broadcast_to(1 - self._held(batch)[:, :, None, None], batch.latents.shape[:-1])

    def _held(self, batch: MultiTalkBatch) -> Float[Array, "B F"]:
        return held(batch, self.config, self.taken_over).astype(jnp.float32)


def taken_over_by(configs: MultiTalkConfigs, settings: WindowSettings) -> int:
    """Latent frames that a later clip has of the one before."""
    return configs.dit.latent_frames(settings.motion_frames(configs.dit.recipe))


def clips_of(
    configs: MultiTalkConfigs, settings: TrainingSettings, num_frames: int, clip_frames: int
) -> MultiTalkRollout:
    """The clip of a window.

    Args:
      num_frames: to be learnt of a window, in the video.
      clip_frames: of a clip.

    Raises:
      UserError: there would be several.
    """
    if clip_frames != num_frames:
        raise UserError(f"{clip_frames}: a window of these models is one clip; leave it out", field="clip_frames")
    return MultiTalkRollout(configs.dit, taken_over_by(configs, settings))
