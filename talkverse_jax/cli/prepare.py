"""Turns videos into shards of what the training step takes."""

from talkverse_jax.core.errors import run_command


def main(argv: list[str] | None = None) -> None:
    from talkverse_jax.core.options import read
    from talkverse_jax.pipeline import registry
    from talkverse_jax.training.prepare_options import PrepareOptions, prepare_groups

    module = registry.settings_of(registry.DEFAULT)
    values = read(prepare_groups(module), "prepare", __doc__ or "", argv)
    options = PrepareOptions.build(module, values, "prepare")

    from talkverse_jax.cli.progress import TerminalReporter
    from talkverse_jax.core import compile_cache
    from talkverse_jax.training.prepare import prepare

    compile_cache.enable()
    prepare(options, TerminalReporter())


if __name__ == "__main__":
    run_command(main)
