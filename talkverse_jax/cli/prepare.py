"""Encode a data set of videos once: shards of latents, audio features, text states and masks, for training."""

from collections.abc import Sequence

from talkverse_jax.cli.flags import parse
from talkverse_jax.core.options import Groups


def groups(family: str) -> Groups:
    """The options."""
    from talkverse_jax.training.prepare import PrepareOptions

    return {"prepare": PrepareOptions}


def main(argv: Sequence[str] | None, prog: str) -> None:
    options = parse(groups(""), prog, __doc__ or "", argv)["prepare"]

    from talkverse_jax.core import compile_cache
    from talkverse_jax.training.prepare import prepare

    compile_cache.enable()
    prepare(options)
