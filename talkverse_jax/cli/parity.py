"""Compare our numbers with reference bundles of the original program.

A bundle is one case of the original in a safetensors file: inputs, outputs, values on the way (docs/parity.md). The
modules, weight tables and denoising step are those that `sample` runs. The exit code is 0 only if nothing failed.
"""

import sys
from collections.abc import Sequence

from talkverse_jax.cli.flags import parse
from talkverse_jax.core.options import Groups
from talkverse_jax.parity.options import ParityOptions


def groups(family: str) -> Groups:
    """The options."""
    return {"parity": ParityOptions}


def main(argv: Sequence[str] | None, prog: str) -> None:
    options = parse(groups(""), prog, __doc__ or "", argv, config=False)["parity"]

    from talkverse_jax.cli.progress import TerminalReporter
    from talkverse_jax.parity.compare import run

    found = run(options, TerminalReporter(sys.stdout))
    sys.exit(0 if all(comparison.passed for comparison in found) else 1)
