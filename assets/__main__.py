"""Prints the folder of the toy model."""

from talkverse_jax_toy import FOLDER

print(FOLDER)
