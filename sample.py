"""Makes a talking video of a picture, a sound and a prompt, or the videos of a list of these."""

from talkverse_jax.cli.sample import main
from talkverse_jax.core.errors import run_command

if __name__ == "__main__":
    run_command(main)
