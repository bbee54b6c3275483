"""Videos of people who talk make the model better at it: training and fine-tuning."""

from talkverse_jax.core.errors import run_command


def main(argv: list[str] | None = None) -> None:
    from talkverse_jax.core.options import read
    from talkverse_jax.pipeline import registry
    from talkverse_jax.training.options import TrainOptions, train_groups

    module = registry.settings_of(registry.DEFAULT)
    values = read(train_groups(module), "train.py", __doc__ or "", argv)
    options = TrainOptions.build(module, values, "train.py")

    from talkverse_jax.cli.progress import TerminalReporter
    from talkverse_jax.core import compile_cache
    from talkverse_jax.run.worker import make_video
    from talkverse_jax.sharding import distributed
    from talkverse_jax.training.loop import train

    processes = options.processes
    with distributed.session(*processes.processes, heartbeat_timeout=processes.heartbeat_timeout, preemption=True):
        compile_cache.enable()
        train(options, TerminalReporter(), make_video)


if __name__ == "__main__":
    run_command(main)
