"""Seconds of one float32 call of the transformer at the published widths (4 of 30 blocks), beside the original.

    python benchmarks/dit_cpu.py [--original CLONE [--original_python PYTHON]]

One call is everything: text and audio embedding, motion packing, all blocks, the head. With `--original` the
same shapes run in a checkout of the original program, in the Python that has its requirements; the two take
turns, call by call, so that the ratio is of one machine in one state.
"""

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import jax
import jax.numpy as jnp
from flax import nnx

from talkverse_jax.cli.command import run_command
from talkverse_jax.core.compilation import model_jit
from talkverse_jax.core.errors import UserError
from talkverse_jax.families.talkverse.config import TalkVerseConfig
from talkverse_jax.families.talkverse.model import TalkVerse
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


def our_call() -> Callable[[tuple[int, ...]], float]:
    """A function that makes one call at a size and gives its seconds."""
    config = full_width()
    model = jax.jit(lambda: TalkVerse(config, rngs=nnx.Rngs(0)))()
    inputs = {size: random_inputs(config, *size) for size in SIZES}

    def timed(size: tuple[int, ...]) -> float:
        begin = time.perf_counter()
        jax.block_until_ready(call(model, *inputs[size]))
        return time.perf_counter() - begin

    return timed


@contextmanager
def original_call(clone: Path, python: str) -> Iterator[Callable[[tuple[int, ...]], float]]:
    """The same of the original program, which benchmarks/original.py keeps ready in its own Python."""
    script = Path(__file__).with_name("original.py")
    command = [python, str(script), str(clone), "--threads", "2"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:

        def timed(size: tuple[int, ...]) -> float:
            try:
                process.stdin.write("x".join(map(str, size)) + "\n")
                process.stdin.flush()
                return float(process.stdout.readline())
            except (BrokenPipeError, ValueError):
                reason = (process.stderr.read().strip().splitlines() or ["it stopped"])[-1]
                raise UserError(f"--original {clone}: {reason}") from None

        yield timed
        process.stdin.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--original", type=Path, metavar="CLONE", help="a checkout of the original program")
    parser.add_argument(
        "--original_python",
        default=sys.executable,
        metavar="PYTHON",
        help="the Python that has the original's requirements (default: this one)",
    )
    parser.add_argument("--repeats", type=int, default=7, help="timed calls of each size (default: 7)")
    args = parser.parse_args()

    programs = {"ours": our_call()}
    with ExitStack() as stack:
        if args.original:
            programs["original"] = stack.enter_context(original_call(args.original, args.original_python))
        for size in SIZES:
            runs = {name: [] for name in programs}
            for repeat in range(args.repeats + 1):
                for name, timed in programs.items():
                    seconds = timed(size)
                    if repeat:  # the first call compiles, or warms up
                        runs[name].append(seconds)
            median = {name: statistics.median(seconds) for name, seconds in runs.items()}
            line = "  ".join(f"{name} {seconds:.2f} s" for name, seconds in median.items())
            if args.original:
                line += f"  ratio {median['ours'] / median['original']:.2f}"
            print(f"{'x'.join(map(str, size)):>8}  {line}", flush=True)


if __name__ == "__main__":
    run_command(main)
