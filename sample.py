"""A picture, a sound and a prompt become a talking video; a list of them, many."""

import sys

from talkverse_jax.core.errors import run_command


def main(argv: list[str] | None = None) -> None:
    from talkverse_jax.core.options import parse_options
    from talkverse_jax.pipelines.sample_options import SampleOptions

    options = parse_options(SampleOptions, "sample.py", __doc__, argv)

    from talkverse_jax.core import compile_cache
    from talkverse_jax.pipelines.batch import run_batch
    from talkverse_jax.pipelines.sample import sample
    from talkverse_jax.sharding import distributed

    with distributed.session(*options.processes, heartbeat_timeout=options.heartbeat_timeout):
        compile_cache.enable()
        if options.batch is None:
            sample(options)
        elif run_batch(options):
            sys.exit(1)


if __name__ == "__main__":
    run_command(main)
