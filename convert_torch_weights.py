"""The published PyTorch weights become weights for sample.py: `python convert_torch_weights.py --help`."""

from talkverse_jax.cli.convert import main
from talkverse_jax.core.errors import run_command

if __name__ == "__main__":
    run_command(main)
