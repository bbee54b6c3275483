"""parity"""

import sys
from collections.abc import Sequence


def main(argv: Sequence[str] | None, prog: str) -> None:
    from talkverse_jax.parity import compare as tool

    sys.argv = [prog, *(sys.argv[1:] if argv is None else argv)]
    tool.main()
