"""Write a reference bundle with the original PyTorch program and the weights you hold (docs/parity.md).

It runs in the Python that the original runs in, with torch and its requirements, in float32 on the CPU. That Python
needs no JAX: `PYTHONPATH=THIS_CLONE python -m talkverse_jax dump-original ...`. `parity` then compares our numbers with
the bundle.
"""

from collections.abc import Sequence

from talkverse_jax.cli.families import FamilyChoice
from talkverse_jax.cli.flags import parse, peek
from talkverse_jax.core.options import Groups
from talkverse_jax.core.reporting import Reporter
from talkverse_jax.pipeline import registry


def groups(family: str) -> Groups:
    """The options, where the original is that of a family."""
    return {"choice": FamilyChoice, "dump": registry.original_of(family).DumpOptions}


def main(argv: Sequence[str] | None, prog: str) -> None:
    # --config is not asked: it holds no options here, but sizes
    family = peek(("family", "config"), argv).get("family", registry.DEFAULT)
    options = parse(groups(family), prog, __doc__ or "", argv, config=False)["dump"]
    registry.original_of(family).run(options, _Lines())


class _Lines(Reporter):
    """Prints lines; the terminal's own reporter asks JAX which process may speak."""

    def say(self, text: str) -> None:
        print(text)
