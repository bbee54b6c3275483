"""The toy model of talkverse_jax, and a face and two sentences for it to speak.

`python -m talkverse_jax_toy` prints the folder that holds them, which a clone has as `assets`.
"""

from pathlib import Path

FOLDER = Path(__file__).resolve().parent
