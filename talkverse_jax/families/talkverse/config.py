"""Sizes of TalkVerse: the Wan trunk, its audio adapter and its motion context."""

import dataclasses

from talkverse_jax.core.errors import UserError
from talkverse_jax.models.wan.config import WanConfig

# Kinds of layers: the first part of their parameters' paths.
BLOCK, INJECTOR = "blocks", "audio_injectors"


@dataclasses.dataclass(frozen=True)
class TalkVerseConfig:
    """Architecture of the TalkVerse diffusion transformer.

    Attributes:
      trunk: the Wan trunk.
      audio_dim, audio_layers: width and number of the wav2vec2 hidden states fed in.
      audio_tokens: audio tokens a latent frame, the learned padding token not counted.
      audio_inject_layers: blocks (from 0) after which audio is injected.
      motion_frames: pixel frames of motion context.
      time_stride: pixel frames a latent frame of the VAE; weights converted before it was written down have 4.
    """

    trunk: WanConfig
    audio_dim: int
    audio_layers: int
    audio_tokens: int
    audio_inject_layers: tuple[int, ...]
    motion_frames: int
    time_stride: int = 4

    def __post_init__(self):
        if self.trunk.num_heads < 1 or self.trunk.dim % self.trunk.num_heads or self.trunk.dim % 4:
            raise UserError(f"dim {self.trunk.dim}: must divide by num_heads {self.trunk.num_heads} and by 4")
        outside = [layer for layer in self.audio_inject_layers if not 0 <= layer < self.trunk.num_layers]
        if outside:
            raise UserError(f"audio_inject_layers: {outside} are no blocks; num_layers is {self.trunk.num_layers}")

    @property
    def layers(self) -> list[tuple[str, ...]]:
        """Paths of all layers in order: each block with the injection after it."""
        injectors = {block: number for number, block in enumerate(sorted(set(self.audio_inject_layers)))}
        return [
            (f"{BLOCK}/{i}", f"{INJECTOR}/{injectors[i]}") if i in injectors else (f"{BLOCK}/{i}",)
            for i in range(self.trunk.num_layers)
        ]

    @property
    def motion_latent_frames(self) -> int:
        """Latent frames of the motion context."""
        return -(-self.motion_frames // self.time_stride)

    def latent_frames(self, frames: int) -> int:
        """Latent frames of a clip of `frames` pixel frames, those of its motion context not counted."""
        return -(-(self.motion_frames + frames) // self.time_stride) - self.motion_latent_frames

    @classmethod
    def talkverse_5b(cls) -> "TalkVerseConfig":
        """The published TalkVerse-5B."""
        return cls(
            trunk=WanConfig.ti2v_5b(),
            audio_dim=1024,
            audio_layers=25,
            audio_tokens=4,
            audio_inject_layers=(0, 3, 6, 9, 12, 15, 18, 21, 24, 27, 29),
            motion_frames=73,
        )
