"""Write docs/tpu.md: what a denoising step and an update of training cost on each machine, compiled for each.

Its rows are kept in the JSON file beside it, so that some can be made anew while the others stay.
"""

import sys
from collections.abc import Sequence

from talkverse_jax.cli.flags import parse
from talkverse_jax.cli.plan import compiler_dump
from talkverse_jax.core.options import Groups
from talkverse_jax.plan.options import TableOptions


def groups(family: str) -> Groups:
    """The options."""
    return {"table": TableOptions}


def main(argv: Sequence[str] | None, prog: str) -> None:
    options = parse(groups(""), prog, __doc__ or "", argv, config=False)["table"]

    from talkverse_jax.cli.progress import TerminalReporter
    from talkverse_jax.plan.table import run

    with compiler_dump() as dump:
        run(options, TerminalReporter(sys.stdout), dump)
