"""Seconds of one float32 call of the transformer at the published widths (4 of 30 blocks), beside the original.

    python benchmarks/dit_cpu.py [--original CLONE [--original_python PYTHON]]

One call is everything: text and audio embedding, motion packing, all blocks, the head. With `--original` the
same shapes run right after ours in a checkout of the original program, in the Python that has its
requirements.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
from flax import nnx

from talkverse_jax.core.compilation import model_jit
from talkverse_jax.core.errors import UserError, run_command
from talkverse_jax.models.talkverse.config import TalkVerseConfig
from talkverse_jax.models.talkverse.model import TalkVerse
from talkverse_jax.models.wan.config import WanConfig

SIZES = ((3, 8, 12), (6, 16, 16))  # latent frames, rows, columns


def full_width(num_layers: int = 4) -> TalkVerseConfig:
    """The published widths with fewer blocks: 1.0 billion parameters."""
    trunk = WanConfig.ti2v_5b().__dict__ | {"num_layers": num_layers}
    real = TalkVerseConfig.talkverse_5b().__dict__
    return TalkVerseConfig(**real | {"trunk": WanConfig(**trunk), "audio_inject_layers": (0, 3)})


@model_jit
def call(model: TalkVerse, text, audio, reference, motion, latents, timestep):
    return model.velocity(latents, timestep, model.prepare(text, audio, reference, motion))


def random_inputs(config: TalkVerseConfig, frames: int, height: int, width: int):
    """Inputs of `call` for one latent size, the text at its full length of 512."""
    keys = iter(jax.random.split(jax.random.key(0), 5))
    trunk, channels = config.trunk, config.trunk.in_channels
    return (
        jax.random.normal(next(keys), (1, trunk.text_len, trunk.text_dim)),
        jax.random.normal(next(keys), (1, 4 * frames, config.audio_layers, config.audio_dim)),
        jax.random.normal(next(keys), (1, 1, height, width, channels)),
        jax.random.normal(next(keys), (1, config.motion_latent_frames, height, width, channels)),
        jax.random.normal(next(keys), (1, frames, height, width, channels)),
        jnp.full((1,), 600.0),
    )


def time_ours(repeats: int) -> dict[str, float]:
    """Median seconds of a call by size, compilation left out."""
    config = full_width()
    model = jax.jit(lambda: TalkVerse(config, rngs=nnx.Rngs(0)))()
    seconds = {}
    for size in SIZES:
        inputs = random_inputs(config, *size)
        jax.block_until_ready(call(model, *inputs))
        runs = []
        for _ in range(repeats):
            begin = time.perf_counter()
            jax.block_until_ready(call(model, *inputs))
            runs.append(time.perf_counter() - begin)
        seconds["x".join(map(str, size))] = statistics.median(runs)
    return seconds


def time_original(clone: Path, python: str, repeats: int) -> dict[str, float]:
    """The same of the original program, run by benchmarks/original.py in its own Python."""
    script = Path(__file__).with_name("original.py")
    command = [python, str(script), str(clone), "--threads", "2", "--repeats", str(repeats)]
    run = subprocess.run(command, capture_output=True, text=True)
    if run.returncode:
        raise UserError(f"--original {clone}: {run.stderr.strip().splitlines()[-1]}")
    return json.loads(run.stdout)["seconds"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--original", type=Path, metavar="CLONE", help="a checkout of the original program")
    parser.add_argument(
        "--original_python",
        default=sys.executable,
        metavar="PYTHON",
        help="the Python that has the original's requirements (default: this one)",
    )
    parser.add_argument("--repeats", type=int, default=5, help="timed calls of each (default: 5)")
    args = parser.parse_args()

    ours = time_ours(args.repeats)
    original = time_original(args.original, args.original_python, args.repeats) if args.original else {}
    for size, seconds in ours.items():
        beside = f"  original {original[size]:.2f} s  ratio {seconds / original[size]:.2f}" if original else ""
        print(f"{size:>8}  ours {seconds:.2f} s{beside}")


if __name__ == "__main__":
    run_command(main)
