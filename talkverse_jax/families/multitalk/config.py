"""Sizes of MultiTalk: Wan2.1's image-to-video trunk, its audio adapter, and where speakers are placed."""

import dataclasses
from typing import Literal

from talkverse_jax.core.errors import UserError
from talkverse_jax.models.wan.config import WanConfig

Recipe = Literal["multitalk", "infinitetalk"]

BLOCK = "blocks"  # the kind of all layers: the first part of their parameters' paths


@dataclasses.dataclass(frozen=True)
class MultiTalkConfig:
    """Architecture of the diffusion transformer.

    Attributes:
      trunk: the Wan trunk.
      image_dim: width of a picture's tokens (CLIP).
      audio_dim, audio_layers: width and number of the wav2vec2 hidden states fed in.
      audio_window: frames of sound that a frame hears, odd; half of them before it.
      audio_hidden: width of the audio projector.
      audio_token_dim, audio_tokens: width of its tokens, and how many a latent frame and a speaker.
      time_stride: pixel frames a latent frame of the VAE.
      speaker_ranges: the positions of each speaker's tokens, from .. to; the sound lies at their middle. Speakers
        behind the last of these were not trained: they take the background's position.
      background: the position of everything else.
      recipe: how clips follow one another: the weights of InfiniteTalk differ from MultiTalk's in nothing else.
    """

    trunk: WanConfig
    image_dim: int
    audio_dim: int
    audio_layers: int
    audio_window: int
    audio_hidden: int
    audio_token_dim: int
    audio_tokens: int
    time_stride: int
    speaker_ranges: tuple[tuple[float, float], ...]
    background: float
    recipe: Recipe

    def __post_init__(self):
        if self.trunk.num_heads < 1 or self.trunk.dim % self.trunk.num_heads or self.trunk.head_dim % 2:
            raise UserError(f"dim {self.trunk.dim}: must divide by num_heads {self.trunk.num_heads}, and evenly")
        if self.audio_window % 2 == 0:
            raise UserError(f"audio_window {self.audio_window}: give an odd number")

    @property
    def known_channels(self) -> int:
        """Channels beside the latents: which frames of a latent frame are known, and their latents."""
        return self.time_stride + self.trunk.out_channels

    @property
    def group_window(self) -> int:
        """Frames of sound that a latent frame hears, but the first."""
        return self.audio_window + self.time_stride - 1

    def latent_frames(self, frames: int) -> int:
        """Latent frames of a clip of `frames` pixel frames, 1 more than a multiple of the stride."""
        return 1 + (frames - 1) // self.time_stride

    def ranges(self, speakers: int) -> tuple[tuple[float, float], ...]:
        """The positions of so many speakers' tokens."""
        known = self.speaker_ranges[:speakers]
        return (*known, *[(self.background, self.background)] * (speakers - len(known)))

    @classmethod
    def multitalk_14b(cls) -> "MultiTalkConfig":
        """The published MultiTalk on Wan2.1-I2V-14B."""
        return cls(
            trunk=WanConfig.i2v_14b(),
            image_dim=1280,
            audio_dim=768,
            audio_layers=12,
            audio_window=5,
            audio_hidden=512,
            audio_token_dim=768,
            audio_tokens=32,
            time_stride=4,
            speaker_ranges=((0.0, 4.0), (20.0, 24.0)),
            background=12.0,
            recipe="multitalk",
        )
