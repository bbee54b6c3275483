"""Videos of people who talk make the model better at it: training and fine-tuning."""

from talkverse_jax.core.errors import run_command


def main(argv: list[str] | None = None) -> None:
    from talkverse_jax.core.options import parse_options
    from talkverse_jax.training.options import TrainOptions

    options = parse_options(TrainOptions, "train.py", __doc__, argv)

    from talkverse_jax.core import compile_cache
    from talkverse_jax.sharding import distributed
    from talkverse_jax.training.loop import train

    with distributed.session(*options.processes, heartbeat_timeout=options.heartbeat_timeout, preemption=True):
        compile_cache.enable()
        train(options)


if __name__ == "__main__":
    run_command(main)
