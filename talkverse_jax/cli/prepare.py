"""Encode a data set of videos once: shards of latents, audio features, text states and masks, for training."""

from collections.abc import Sequence

from talkverse_jax.cli.families import FamilyChoice, family_named
from talkverse_jax.cli.flags import parse
from talkverse_jax.core.options import Groups
from talkverse_jax.pipeline import registry
from talkverse_jax.training.prepare_options import PrepareOptions, prepare_groups


def groups(family: str) -> Groups:
    """The options, where the model is of that family."""
    return prepare_groups(registry.settings_of(family)) | {"choice": FamilyChoice}


def main(argv: Sequence[str] | None, prog: str) -> None:
    made = parse(groups(family_named(argv)), prog, __doc__ or "", argv)
    choice, options = made.pop("choice"), PrepareOptions(**made)
    choice.check(options.input.weights)

    from talkverse_jax.cli.progress import TerminalReporter

    if options.videos.dry_run:
        from talkverse_jax.plan.dry_run import dry_prepare

        dry_prepare(options, TerminalReporter())
        return

    from talkverse_jax.core import compile_cache
    from talkverse_jax.training.prepare import prepare

    compile_cache.enable()
    prepare(options, TerminalReporter())
