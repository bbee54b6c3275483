"""Voices of the toy world that speak for as long as one likes, with pauses, at their own speed.

python -m talkverse_jax.toy.voice --seconds 60 | talkverse-jax stream --sound - ...

It writes 16-bit mono samples at 16 kHz to standard output.
"""

import argparse
import io
import itertools
import sys
import time
from collections.abc import Iterator

import numpy as np
from jaxtyping import Int16

from talkverse_jax.cli.command import run_command
from talkverse_jax.toy.speech import RATE, speak

_SPEECH, _PAUSE = 5.0, 2.0  # seconds
_PIECE = 0.04  # seconds that are written at once
_LATE = 0.2  # seconds by which a piece may be late, before all that follow are


def sentences(seed: int) -> Iterator[Int16[np.ndarray, " n"]]:
    """Speech and silence in turn, by one voice after another."""
    silence = np.zeros(round(_PAUSE * RATE), np.int16)
    for number in itertools.count():
        sound = speak(np.random.default_rng([seed, number]), _SPEECH).sound
        yield np.concatenate([np.round(sound.clip(-1, 1) * 32767).astype(np.int16), silence])


def play(seconds: float, seed: int, pipe: io.FileIO) -> None:
    """Write so many seconds of it, each piece when it is due; where nobody reads, the voice waits."""
    begun, written, size = time.monotonic(), 0, round(_PIECE * RATE)
    for sentence in sentences(seed):
        for start in range(0, len(sentence), size):
            if written >= seconds * RATE:
                return
            written += size
            time.sleep(max(0.0, begun + written / RATE - time.monotonic()))
            pipe.write(sentence[start : start + size].tobytes())
            late = time.monotonic() - begun - written / RATE
            begun += late if late > _LATE else 0.0


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser("talkverse_jax.toy.voice", description="Speak on standard output.")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(argv)
    play(given.seconds, given.seed, io.FileIO(sys.stdout.fileno(), "wb", closefd=False))


if __name__ == "__main__":
    run_command(main)
