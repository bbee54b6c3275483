"""Random weights in the published layout: `python -m talkverse_jax.cli.random_checkpoint --output DIR`."""

import argparse
import sys

from talkverse_jax.cli.command import run_command
from talkverse_jax.cli.progress import TerminalReporter


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m talkverse_jax.cli.random_checkpoint",
        description="Write a checkpoint with random weights in the published layout.",
    )
    parser.add_argument("--family", metavar="NAME", help="of models (default: talkverse)")
    parser.add_argument("--output", metavar="DIR", required=True, help="where to")
    parser.add_argument("--config", metavar="FILE", help="TOML file of sizes (default: the published ones)")
    parser.add_argument("--seed", type=int, default=0, help="default: 0")
    parser.add_argument("--lora_rank", metavar="N", type=int, default=128, help="default: 128")
    args = parser.parse_args(argv)

    from talkverse_jax.convert.random_checkpoint import write_random_checkpoint
    from talkverse_jax.pipeline import registry

    family = registry.find(args.family or registry.DEFAULT)
    configs = family.configs_from_toml(args.config) if args.config else family.real_size()
    write_random_checkpoint(
        family, args.output, configs, args.seed, lora_rank=args.lora_rank, reporter=TerminalReporter(sys.stdout)
    )


if __name__ == "__main__":
    run_command(main)
