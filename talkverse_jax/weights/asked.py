"""What a person says of weights and of trained files (LoRA and others), wherever they are taken. Imports no JAX."""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from talkverse_jax.core.errors import UserError
from talkverse_jax.core.options import option

FILES = "lora_ckpt"  # the flag of the files that the others belong to
PEFT_CONFIG = "adapter_config.json"  # lies beside a file of PEFT's and belongs to it
Alpha = float | Literal["ignore"] | None  # of pairs, as a person says it


@dataclasses.dataclass(frozen=True)
class TrainedFile:
    """A file as it was asked for.

    Attributes:
      strength: times which its pairs and differences are added.
      rank, alpha: of its pairs, where the person said it; the file's own must agree. "ignore": each pair counts once,
        whatever alpha the file gives it.
    """

    path: str | Path
    strength: float = 1.0
    rank: int | None = None
    alpha: Alpha = None


@dataclasses.dataclass(frozen=True)
class Asked:
    """Of trained files.

    Attributes:
      lora_strength: of each file; none: 1 of all.
      lora_rank, lora_alpha: of the pairs of them all; None: as the files have it.

    Raises:
      UserError: a number makes no sense.
    """

    lora_strength: tuple[float, ...] = ()
    lora_rank: int | None = None
    lora_alpha: Alpha = None

    def __post_init__(self):
        if self.lora_rank is not None and self.lora_rank < 1:
            raise UserError(f"{self.lora_rank}: give 1 or more", field="lora_rank")
        alphas = (self.lora_alpha,) if isinstance(self.lora_alpha, float) else ()
        for name, values in (("lora_strength", self.lora_strength), ("lora_alpha", alphas)):
            for value in values:
                if not math.isfinite(value):
                    raise UserError(f"{value}: give a number", field=name)

    def files(self, paths: Sequence[str | Path]) -> tuple[TrainedFile, ...]:
        """The files, each with its strength.

        Raises:
          UserError: there are more or fewer strengths than files.
        """
        strengths = self.lora_strength or (1.0,) * len(paths)
        if len(strengths) != len(paths):
            given = " ".join(f"{strength:g}" for strength in strengths)
            raise UserError(f"{given}: {len(paths)} files are given; give one number for each", field="lora_strength")
        return tuple(
            TrainedFile(path, strength, self.lora_rank, self.lora_alpha) for path, strength in zip(paths, strengths)
        )


NOTHING = Asked()


def verify_option() -> Any:
    """`--verify`."""
    return option(
        "first read all files of the weights and compare their checksums; otherwise those of what is used",
        group="input",
        default=False,
    )


def strength_option(group: str, decides: bool = False) -> Any:
    """`--lora_strength`."""
    return option(
        "how strongly the pairs and differences of each file of --lora_ckpt count, a number for each (default: 1)",
        group=group,
        metavar="X",
        default=(),
        decides=decides,
        of=FILES,
    )


def rank_option(group: str, decides: bool = False) -> Any:
    """`--lora_rank`, which the files tell."""
    return option(
        "rank of the pairs in --lora_ckpt (default: the file's; another is refused)",
        group=group,
        metavar="N",
        default=None,
        least=1,
        decides=decides,
        of=FILES,
    )


def alpha_option(group: str, decides: bool = False) -> Any:
    """`--lora_alpha`, where the files do not tell it."""
    return option(
        "alpha of the pairs in --lora_ckpt, which count alpha/rank times (default: the file's; where it has none, the "
        "rank); ignore: each counts once, as in programs that pass over the file's alpha",
        group=group,
        metavar="X|ignore",
        default=None,
        decides=decides,
        of=FILES,
    )
