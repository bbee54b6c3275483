"""`python -m talkverse_jax COMMAND`, installed as `talkverse-jax`."""

from talkverse_jax.cli.main import main

main()
