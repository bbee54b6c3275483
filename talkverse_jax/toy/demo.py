"""Draws what the demo speaks with: a person of the toy world's held-out set, and two of its sentences.

python -m talkverse_jax.toy.demo assets
"""

import argparse
from pathlib import Path

import soundfile
from PIL import Image

from talkverse_jax.cli.command import run_command
from talkverse_jax.core.errors import naming
from talkverse_jax.core.paths import new_folder
from talkverse_jax.toy.make import make_clip
from talkverse_jax.toy.speech import RATE

_FACE, _SIZE = 2, (512, 512)
_SPEECH = {"speech.flac": (104, 4.92), "speech_other.flac": (105, 2.88)}  # number in the set, seconds


def draw_demo(folder: str | Path) -> None:
    """Write face.png (512x512), speech.flac and speech_other.flac (16 kHz, mono)."""
    target = new_folder(folder)
    for name, (number, seconds) in _SPEECH.items():
        with naming(target / name):
            soundfile.write(target / name, make_clip(0, "held_out", number, seconds).speech.sound, RATE)
    with naming(target / "face.png"):
        frames = make_clip(0, "held_out", _FACE, 0.5, _SIZE).film.frames
        Image.fromarray(frames[0]).save(target / "face.png", optimize=True)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser("talkverse_jax.toy.demo", description="Draw what the demo speaks with.")
    parser.add_argument("output", metavar="DIR")
    draw_demo(parser.parse_args(argv).output)


if __name__ == "__main__":
    run_command(main)
