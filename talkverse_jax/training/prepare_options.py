"""What preparing samples can be told, whatever the family; flags that training has too mean the same there. Imports no
JAX."""

import dataclasses
from collections.abc import Mapping
from types import ModuleType
from typing import Any, Literal

from talkverse_jax.core.errors import UserError
from talkverse_jax.core.options import build, check_bounds, option
from talkverse_jax.training.video_options import VideoOptions
from talkverse_jax.weights.asked import verify_option


@dataclasses.dataclass(frozen=True)
class PrepareInput:
    """What is made, and of what."""

    weights: str = option("folder of converted weights", group="input", metavar="DIR")
    windows: int = option(
        "windows of each video, each with its reference picture: those that training on videos takes in N epochs",
        group="input",
        metavar="N",
        default=1,
        least=1,
    )
    dtype: Literal["bfloat16", "float32"] = option("number type of what is stored", group="input", default="bfloat16")
    verify: bool = verify_option()

    def __post_init__(self):
        check_bounds(self)


@dataclasses.dataclass(frozen=True)
class PrepareOutput:
    """Where the shards go."""

    output: str = option("folder of the shards; those that are missing are made", group="output", metavar="DIR")
    shard_size: int = option(
        "samples of a shard, 15 MB each at 640x640", group="output", metavar="N", default=64, least=1
    )

    def __post_init__(self):
        check_bounds(self)


@dataclasses.dataclass(frozen=True)
class PrepareWork:
    """How the work is divided."""

    batch_size: int = option(
        "windows that are encoded at once", group="machine", metavar="N", default=1, lowers_memory=(1, "1"), least=1
    )
    num_processes: int = option(
        "how many processes, here or elsewhere, share the work and the folder",
        group="machine",
        metavar="N",
        default=1,
        least=1,
    )
    process_id: int = option("the number of this process, from 0", group="machine", metavar="N", default=0, least=0)

    def __post_init__(self):
        check_bounds(self)
        if self.process_id >= self.num_processes:
            raise UserError(f"{self.process_id}: give 0 to {self.num_processes - 1}", field="process_id")

    def own(self, name: str) -> str:
        """The name of a file that each process has its own of."""
        if self.num_processes == 1:
            return name
        stem, suffix = name.split(".")
        return f"{stem}-{self.process_id}-of-{self.num_processes}.{suffix}"


@dataclasses.dataclass(frozen=True)
class PrepareOptions:
    """One run.

    Attributes:
      settings: the family's `WindowSettings`.
    """

    input: PrepareInput
    videos: VideoOptions
    settings: Any
    output: PrepareOutput
    work: PrepareWork

    @classmethod
    def build(cls, family_settings: ModuleType, values: Mapping[str, Any], where: str) -> "PrepareOptions":
        """From values by flag; otherwise as `TrainOptions.build`."""
        return cls(**build(prepare_groups(family_settings), dict(values), where))


def prepare_groups(family_settings: ModuleType) -> dict[str, type]:
    """The options of preparing by group, as `PrepareOptions` has them.

    Args:
      family_settings: the family's module `settings`.
    """
    return {
        "input": PrepareInput,
        "videos": VideoOptions,
        "settings": family_settings.WindowSettings,
        "output": PrepareOutput,
        "work": PrepareWork,
    }
