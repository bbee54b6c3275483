"""Which parameters are trained, and how fast: the original's strategies, by our paths.

What the base model lacks is always trained. Of the base model a strategy adds

    none, framepack    nothing
    minimal            what the family names: time embedding and projection, head
    lora               minimal, and adapters on layers of every block, whose kernels stay as they are
    moderate           minimal, and the last sixth of the blocks
    aggressive         minimal, and the last third
    full               minimal, and all blocks

Which parameters these are, the family's `Trainable` says.
"""

import dataclasses
import fnmatch
from typing import Any, Literal, get_args

from talkverse_jax.pipeline.training import Trainable
from talkverse_jax.training.names import StrategyName

Group = Literal["lora", "scaled", "rest"]

GROUPS: tuple[Group, ...] = get_args(Group)

_ADAPTERS = "*/adapter/*"
_SHARE_OF_BLOCKS = {"moderate": 6, "aggressive": 3, "full": 1}  # the last 1/n of them


def matches(path: str, patterns: tuple[str, ...]) -> bool:
    """Whether a parameter's path fits one of the patterns."""
    return any(fnmatch.fnmatchcase(path, pattern) for pattern in patterns)


@dataclasses.dataclass(frozen=True)
class Strategy:
    """What is trained of a model.

    Attributes:
      parts: its parameters.
      everything: every parameter (the original's `finetune_all`); others then have the raised rate.
    """

    name: StrategyName
    parts: Trainable
    num_blocks: int
    everything: bool = False

    @classmethod
    def of(cls, name: StrategyName, parts: Trainable, config: Any, everything: bool = False) -> "Strategy":
        """For a model of that config."""
        return cls(name, parts, parts.blocks(config), everything)

    @property
    def first_block(self) -> int:
        """The first block that is trained whole; `num_blocks` where none is."""
        if self.everything:
            return 0
        share = _SHARE_OF_BLOCKS.get(self.name)
        return self.num_blocks if share is None else self.num_blocks - -(-self.num_blocks // share)

    @property
    def whole_blocks(self) -> int:
        """How many blocks are trained whole."""
        return self.num_blocks - self.first_block

    @property
    def lora(self) -> bool:
        return self.name == "lora"

    def trains(self, path: str) -> bool:
        """Whether the parameter at a path is trained."""
        if self.everything or matches(path, (*self.parts.own, _ADAPTERS)):
            return True
        if (block := self.parts.block(path)) is not None:
            return block >= self.first_block
        return self.name not in ("none", "framepack") and matches(path, self.parts.minimal)

    def group(self, path: str) -> Group:
        """The group of a trained parameter: each has a rate of its own and is clipped on its own."""
        if matches(path, (_ADAPTERS,)):
            return "lora"
        return "scaled" if matches(path, self.parts.raised_of_all if self.everything else self.parts.raised) else "rest"
