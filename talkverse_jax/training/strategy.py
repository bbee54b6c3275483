"""Which parameters are trained, and how fast: the original's strategies, by our paths.

The audio adapter, the frame packer and the token kinds are always trained. Of the base model a strategy adds

    none, framepack    nothing
    minimal            time embedding and projection, head
    lora               minimal, and an adapter on eight layers of every block, whose kernels stay as they are
    moderate           minimal, and the last sixth of the blocks (25 to 29 of TalkVerse-5B)
    aggressive         minimal, and the last third (20 to 29)
    full               minimal, and all blocks
"""

import dataclasses
import fnmatch
from typing import Literal, get_args

from talkverse_jax.families.talkverse.config import TalkVerseConfig

StrategyName = Literal["none", "framepack", "minimal", "lora", "moderate", "aggressive", "full"]
Group = Literal["lora", "scaled", "rest"]

GROUPS: tuple[Group, ...] = get_args(Group)

# What TalkVerse has and its base model lacks.
OWN = ("audio_encoder/*", "audio_injectors/*", "frame_packer/*", "token_kind")
_MINIMAL = ("time_embedding/*", "head/*")
_AUDIO = ("audio_encoder/*", "audio_injectors/*")
_ADAPTERS = "*/adapter/*"
_SHARE_OF_BLOCKS = {"moderate": 6, "aggressive": 3, "full": 1}  # the last 1/n of them


def matches(path: str, patterns: tuple[str, ...]) -> bool:
    """Whether a parameter's path fits one of the patterns."""
    return any(fnmatch.fnmatchcase(path, pattern) for pattern in patterns)


@dataclasses.dataclass(frozen=True)
class Strategy:
    """What is trained of a model.

    Attributes:
      everything: every parameter of the transformer (the original's `finetune_all`); the audio adapter then has the
        raised rate that the frame packer has otherwise.
    """

    name: StrategyName
    num_layers: int
    everything: bool = False

    @classmethod
    def of(cls, name: StrategyName, config: TalkVerseConfig, everything: bool = False) -> "Strategy":
        return cls(name, config.trunk.num_layers, everything)

    @property
    def first_block(self) -> int:
        """The first block that is trained whole; `num_layers` where none is."""
        if self.everything:
            return 0
        share = _SHARE_OF_BLOCKS.get(self.name)
        return self.num_layers if share is None else self.num_layers - -(-self.num_layers // share)

    @property
    def whole_blocks(self) -> int:
        """How many blocks are trained whole."""
        return self.num_layers - self.first_block

    @property
    def lora(self) -> bool:
        return self.name == "lora"

    def trains(self, path: str) -> bool:
        """Whether the parameter at a path is trained."""
        if self.everything or matches(path, (*OWN, _ADAPTERS)):
            return True
        if path.startswith("blocks/"):
            return int(path.split("/")[1]) >= self.first_block
        return self.name not in ("none", "framepack") and matches(path, _MINIMAL)

    def group(self, path: str) -> Group:
        """The group of a trained parameter: each has a rate of its own and is clipped on its own."""
        if matches(path, (_ADAPTERS,)):
            return "lora"
        raised = _AUDIO if self.everything else ("frame_packer/*",)
        return "scaled" if matches(path, raised) else "rest"
