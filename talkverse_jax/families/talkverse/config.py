"""Sizes of TalkVerse: the Wan trunk, its audio adapter and its motion context."""

import dataclasses

from talkverse_jax.core.errors import UserError
from talkverse_jax.models.wan.config import WanConfig


@dataclasses.dataclass(frozen=True)
class RunShape:
    """`times` repeats of some stages.

    Attributes:
      stages: a letter each, B for a block, I for an audio injection.
      block, injection: the number of the first one.
    """

    stages: str
    times: int
    block: int
    injection: int

    def numbers(self, position: int) -> tuple[int, ...]:
        """The number of the block or injection at a position, in each repeat."""
        stage = self.stages[position]
        first = self.block if stage == "B" else self.injection
        first += self.stages[:position].count(stage)
        return tuple(first + repeat * self.stages.count(stage) for repeat in range(self.times))


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
            raise UserError(f"audio_inject_layers: {outside} are no blocks; num_layers is {self.trunk.num_layers}")

    def runs(self, scan: bool, part_at: int = 0) -> list[RunShape]:
        """All stages in order, in the fewest that must be compiled: what repeats is one run.

        Args:
          scan: without it, every block with its injection is a run of its own.
          part_at: no run holds blocks before and from this one, so that these alone can be trained.
        """
        blocks = ["BI" if i in self.audio_inject_layers else "B" for i in range(self.trunk.num_layers)]
        halves = ["".join(blocks[:part_at]), "".join(blocks[part_at:])]
        parts = [part for half in halves for part in _repeats(half)] if scan else [(block, 1) for block in blocks]
        runs, block, injection = [], 0, 0
        for stages, times in parts:
            runs.append(RunShape(stages, times, block, injection))
            block, injection = block + times * stages.count("B"), injection + times * stages.count("I")
        return runs

    @property
    def motion_latent_frames(self) -> int:
        """Latent frames of the motion context: (motion_frames + 3) // 4."""
        return (self.motion_frames + 3) // 4

    def latent_frames(self, frames: int) -> int:
        """Latent frames of a clip of `frames` pixel frames, those of its motion context not counted."""
        return (frames + 3 + self.motion_frames) // 4 - self.motion_latent_frames

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


def _repeats(stages: str) -> list[tuple[str, int]]:
    """The stages as repeats of a pattern, and of another in what is left: the fewest stages in patterns."""
    if not stages:
        return []

    def times(length: int) -> int:
        pattern, count = stages[:length], 1
        while stages.startswith(pattern, count * length):
            count += 1
        return count

    def left(length: int) -> int:
        return len(stages) - length * times(length)

    length = min(range(1, len(stages) + 1), key=lambda length: length + left(length))
    return [(stages[:length], times(length)), *_repeats(stages[length * times(length) :])]
