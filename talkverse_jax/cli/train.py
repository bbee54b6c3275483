"""Train the transformer on videos of people who talk, whole or by LoRA."""

from collections.abc import Sequence

from talkverse_jax.cli.flags import parse
from talkverse_jax.core.options import Groups


def groups(family: str) -> Groups:
    """The options, where the model is of that family."""
    from talkverse_jax.training.options import TrainOptions

    return {"train": TrainOptions}


def main(argv: Sequence[str] | None, prog: str) -> None:
    options = parse(groups(""), prog, __doc__ or "", argv)["train"]

    from talkverse_jax.core import compile_cache
    from talkverse_jax.sharding import distributed
    from talkverse_jax.training.loop import train

    with distributed.session(*options.processes, heartbeat_timeout=options.heartbeat_timeout, preemption=True):
        compile_cache.enable()
        train(options)
