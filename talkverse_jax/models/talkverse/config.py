"""Sizes of TalkVerse: the Wan trunk, its audio adapter and its motion context."""

import dataclasses

from talkverse_jax.core.errors import UserError
from talkverse_jax.models.wan.config import WanConfig


@dataclasses.dataclass(frozen=True)
class RunShape:
    """Blocks `block` ... in `times` repeats of: `length` blocks, then an audio injection where `injected`.

    Attributes:
      block, injection: the number of the first one.
    """

    block: int
    injection: int
    length: int
    times: int
    injected: bool


@dataclasses.dataclass(frozen=True)
class TalkVerseConfig:
    """Architecture of the TalkVerse diffusion transformer.

    Attributes:
      trunk: the Wan trunk.
      audio_dim, audio_layers: width and number of the wav2vec2 hidden states fed in.
      audio_tokens: audio tokens a latent frame, the learned padding token not counted.
      audio_inject_layers: blocks (from 0) after which audio is injected.
      motion_frames: pixel frames of motion context.
    """

    trunk: WanConfig
    audio_dim: int
    audio_layers: int
    audio_tokens: int
    audio_inject_layers: tuple[int, ...]
    motion_frames: int

    def __post_init__(self):
        if self.trunk.dim % self.trunk.num_heads or self.trunk.dim % 4:
            raise UserError(f"dim {self.trunk.dim}: must divide by num_heads {self.trunk.num_heads} and by 4")
        outside = [layer for layer in self.audio_inject_layers if not 0 <= layer < self.trunk.num_layers]
        if outside:
            raise UserError(
                f"audio_inject_layers: {outside} are no blocks; num_layers is {self.trunk.num_layers}"
            )

    def runs(self, scan: bool) -> list[RunShape]:
        """The blocks, in order, as few runs: neighbours of one shape become one run that is repeated.

        Args:
          scan: without it, every block is a run of its own.
        """
        last = self.trunk.num_layers - 1
        ends = range(last + 1) if not scan else sorted({*self.audio_inject_layers, last})
        runs: list[RunShape] = []
        start = injections = 0
        for end in ends:
            length, injected = end + 1 - start, end in self.audio_inject_layers
            before = runs[-1] if runs else None
            if scan and before and (before.length, before.injected) == (length, injected):
                runs[-1] = dataclasses.replace(before, times=before.times + 1)
            else:
                runs.append(RunShape(start, injections, length, 1, injected))
            start, injections = end + 1, injections + injected
        return runs

    @property
    def motion_latent_frames(self) -> int:
        """Latent frames of the motion context: (motion_frames + 3) // 4."""
        return (self.motion_frames + 3) // 4

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
