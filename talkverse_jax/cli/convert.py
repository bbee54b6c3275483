"""Convert published PyTorch weights into a folder of weights for the other commands."""

import sys
from collections.abc import Sequence

from talkverse_jax.cli.families import FamilyChoice, family_named
from talkverse_jax.cli.flags import parse
from talkverse_jax.convert.options import ConvertOptions
from talkverse_jax.core.options import Groups
from talkverse_jax.pipeline import registry


def groups(family: str) -> Groups:
    """The options, where the weights are of that family."""
    return {"sources": registry.settings_of(family).Sources, "choice": FamilyChoice, "convert": ConvertOptions}


def main(argv: Sequence[str] | None, prog: str) -> None:
    family = family_named(argv, folder="output")
    made = parse(groups(family), prog, __doc__ or "", argv, config=False)

    from talkverse_jax.cli.progress import TerminalReporter
    from talkverse_jax.convert.run import run

    run(registry.find(family), made["convert"], made["sources"], TerminalReporter(sys.stdout))
