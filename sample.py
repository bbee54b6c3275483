"""Makes a talking video of a picture, a sound and a prompt, or the videos of a list of these."""

import sys

from talkverse_jax.core.errors import run_command


def main(argv: list[str] | None = None) -> None:
    from talkverse_jax.core.options import parse_options
    from talkverse_jax.families.talkverse.settings import SampleOptions

    options = parse_options(SampleOptions, "sample.py", __doc__, argv)

    from talkverse_jax.core import compile_cache
    from talkverse_jax.run.batch.worker import run_batch
    from talkverse_jax.run.worker import sample
    from talkverse_jax.sharding import distributed

    if options.batch is not None:  # its workers are processes of their own, also where others could be met
        compile_cache.enable()
        sys.exit(1 if run_batch(options) else 0)
    with distributed.session(*options.processes, heartbeat_timeout=options.heartbeat_timeout):
        compile_cache.enable()
        sample(options)


if __name__ == "__main__":
    run_command(main)
