"""Read every byte of converted weights and compare the checksums."""

import dataclasses
from collections.abc import Sequence

from talkverse_jax.cli.flags import parse
from talkverse_jax.core.options import Groups, option


@dataclasses.dataclass(frozen=True)
class VerifyCommand:
    """What is read."""

    weights: str = option("folder of converted weights", group="input", metavar="DIR", positional=True)


def groups(family: str) -> Groups:
    """The options."""
    return {"verify": VerifyCommand}


def main(argv: Sequence[str] | None, prog: str) -> None:
    weights = parse(groups(""), prog, __doc__ or "", argv, config=False)["verify"].weights

    from talkverse_jax.weights import manifest, store

    for notice in store.look_over(weights, verify=True):
        print(notice)
    print(f"{weights}: {', '.join(manifest.read(weights))}: no damage found")
