"""Draw videos of people who talk, in the format of training data: a world for the toy model."""

import sys
from collections.abc import Sequence

from talkverse_jax.cli.flags import parse
from talkverse_jax.core.options import Groups
from talkverse_jax.toy.make_options import MakeOptions


def groups(family: str) -> Groups:
    """The options."""
    return {"world": MakeOptions}


def main(argv: Sequence[str] | None, prog: str) -> None:
    options = parse(groups(""), prog, __doc__ or "", argv)["world"]

    from talkverse_jax.toy.make import make

    print(f"metadata in {make(options)}", file=sys.stderr)
