"""The same as `talkverse-jax train`."""

import sys

from talkverse_jax.cli.command import run_command


def main(argv: list[str] | None = None) -> None:
    from talkverse_jax.cli import train

    train.main(sys.argv[1:] if argv is None else argv, "train.py")


if __name__ == "__main__":
    run_command(main)
