"""Tell, before you pay for a machine, whether a run fits it and how fast it can be at best.

The programs of a TPU are compiled for it by XLA:TPU, which needs libtpu but no TPU; beside the time that they take at
best stands the one that the compiler's own schedule takes, and where it goes. Those of a GPU are estimated from
the models' sizes. Exit codes: 0 planned, whether or not it fits; 1 the counts cannot be right; 2 bad input.
"""

import contextlib
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from talkverse_jax.cli.flags import parse
from talkverse_jax.core.options import Groups
from talkverse_jax.plan.options import PlanOptions

if TYPE_CHECKING:
    from talkverse_jax.plan.kernels import Dump


def groups(family: str) -> Groups:
    """The options."""
    return {"plan": PlanOptions}


def main(argv: Sequence[str] | None, prog: str) -> None:
    options = parse(groups(""), prog, __doc__ or "", argv, config=False)["plan"]

    from talkverse_jax.cli.progress import TerminalReporter
    from talkverse_jax.plan.plan import run

    with compiler_dump() as dump:
        plans = run(options, TerminalReporter(sys.stdout), dump)
    sys.exit(1 if any(made.faults for made in plans) else 0)


@contextlib.contextmanager
def compiler_dump() -> Iterator["Dump"]:
    """Set JAX up to compile for devices that are not there, and the compiler to tell its schedules."""
    from talkverse_jax.plan.kernels import Dump

    compile_for_others()
    with tempfile.TemporaryDirectory() as folder:
        yield Dump(Path(folder))


def compile_for_others() -> None:
    """Set JAX up to compile for devices that are not there."""
    import jax

    jax.config.update("jax_enable_compilation_cache", False)  # what is compiled for them cannot be read back
    # Of source files the part that is the same in any checkout and environment.
    jax.config.update("jax_hlo_source_file_canonicalization_regex", r".*/(?=talkverse_jax/)|.*/site-packages/")
