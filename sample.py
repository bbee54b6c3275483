"""The same as `talkverse-jax sample`."""

import sys

from talkverse_jax.cli.command import run_command


def main(argv: list[str] | None = None) -> None:
    from talkverse_jax.cli import sample

    sample.main(sys.argv[1:] if argv is None else argv, "sample.py")


if __name__ == "__main__":
    run_command(main)
