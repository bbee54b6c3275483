"""Train the transformer on videos of people who talk, whole or by LoRA."""

from collections.abc import Sequence

from talkverse_jax.cli.families import FamilyChoice, family_named
from talkverse_jax.cli.flags import parse
from talkverse_jax.core.options import Groups
from talkverse_jax.pipeline import registry
from talkverse_jax.training.options import TrainOptions, train_groups


def groups(family: str) -> Groups:
    """The options, where the model is of that family."""
    return train_groups(registry.settings_of(family)) | {"choice": FamilyChoice}


def main(argv: Sequence[str] | None, prog: str) -> None:
    made = parse(groups(family_named(argv)), prog, __doc__ or "", argv)
    choice, options = made.pop("choice"), TrainOptions(**made)
    choice.check(options.input.weights)

    from talkverse_jax.cli.progress import TerminalReporter

    if options.videos.dry_run:
        from talkverse_jax.cli.plan import compile_for_others
        from talkverse_jax.plan.dry_run import dry_train

        compile_for_others()
        dry_train(options, TerminalReporter())
        return

    from talkverse_jax.core import compile_cache
    from talkverse_jax.run.worker import make_video
    from talkverse_jax.sharding import distributed
    from talkverse_jax.training.loop import train

    with distributed.session(**options.processes.session, preemption=True):
        compile_cache.enable()
        train(options, TerminalReporter(), make_video)
