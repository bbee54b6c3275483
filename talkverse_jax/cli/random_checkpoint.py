"""Write random weights in the published layout, for tests and benchmarks."""

import dataclasses
import os
import sys
from collections.abc import Sequence

from talkverse_jax.cli.families import FamilyChoice, family_named
from talkverse_jax.cli.flags import parse
from talkverse_jax.core import presets
from talkverse_jax.core.errors import UserError
from talkverse_jax.core.options import Groups, option
from talkverse_jax.pipeline import registry


@dataclasses.dataclass(frozen=True)
class RandomOptions:
    """What is written."""

    output: str = option("folder of the files", group="output", metavar="DIR")
    config: str | None = option(
        "TOML file or preset with sizes (default: the published ones)", group="input", metavar="FILE", default=None
    )
    seed: int = option("seed of the numbers", group="input", metavar="N", default=0)
    lora_rank: int = option("rank of the LoRA pairs", group="input", metavar="N", default=128)


def groups(family: str) -> Groups:
    """The options."""
    return {"choice": FamilyChoice, "random": RandomOptions}


def main(argv: Sequence[str] | None, prog: str) -> None:
    made = parse(groups(""), prog, __doc__ or "", argv, config=False)
    asked, family = made["random"], registry.find(family_named(argv))
    if os.path.isdir(asked.output) and os.listdir(asked.output):
        raise UserError(f"{asked.output}: holds files, maybe real weights of these names; give a new folder")

    from talkverse_jax.cli.progress import TerminalReporter
    from talkverse_jax.convert.random_checkpoint import write_random_checkpoint

    configs = family.configs_from_toml(presets.find(asked.config)) if asked.config else family.real_size()
    reporter = TerminalReporter(sys.stdout)
    write_random_checkpoint(family, asked.output, configs, asked.seed, lora_rank=asked.lora_rank, reporter=reporter)
