"""Tell, before you pay for a machine, whether a run fits it and how fast it can be at best.

The programs of a TPU are compiled for it by XLA:TPU, which needs libtpu but no TPU. Those of a GPU are estimated from
the models' sizes. Exit codes: 0 planned, whether or not it fits; 1 the counts cannot be right; 2 bad input.
"""

import sys
from collections.abc import Sequence

from talkverse_jax.cli.flags import parse
from talkverse_jax.core.options import Groups
from talkverse_jax.plan.options import PlanOptions


def groups(family: str) -> Groups:
    """The options."""
    return {"plan": PlanOptions}


def main(argv: Sequence[str] | None, prog: str) -> None:
    options = parse(groups(""), prog, __doc__ or "", argv, config=False)["plan"]

    from talkverse_jax.cli.progress import TerminalReporter
    from talkverse_jax.plan.plan import run

    compile_for_others()
    plans = run(options, TerminalReporter(sys.stdout))
    sys.exit(1 if any(made.faults for made in plans) else 0)


def compile_for_others() -> None:
    """Set JAX up to compile for devices that are not there."""
    import jax

    jax.config.update("jax_enable_compilation_cache", False)  # what is compiled for them cannot be read back
    # The same program has the same hash in any checkout.
    jax.config.update("jax_hlo_source_file_canonicalization_regex", ".*/")
