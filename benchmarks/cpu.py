"""Float32 programs at the published widths on a CPU, beside the original: seconds, and what of them are products.

    python benchmarks/cpu.py [--original CLONE [--original_python PYTHON]] [--threads 1]

  call     one call of the transformer with 4 of 30 blocks: text and audio embedding, motion packing, blocks, head
  decode   latents decoded by the VAE
  encode   a video encoded by it

With `--original` the same shapes run in a checkout of the original program, in the Python that has its requirements;
the two take turns, run by run, so that the ratio is of one machine in one state. Beside the seconds that passed it
gives those of the processor: on a machine that others use only these say something, and with one thread they hold no
waiting for another. A call's products alone are timed too, at its blocks' own shapes: a call cannot take less than all
its operations at that rate.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from talkverse_jax.cli.command import run_command
from talkverse_jax.core.compilation import model_jit
from talkverse_jax.core.errors import UserError
from talkverse_jax.families.talkverse.config import TalkVerseConfig
from talkverse_jax.families.talkverse.flops import clip_tokens, prepare_flops, step_flops
from talkverse_jax.families.talkverse.model import TalkVerse
from talkverse_jax.models.vae.config import VAEConfig
from talkverse_jax.models.vae.flops import decode_flops, encode_flops
from talkverse_jax.models.vae.model import WanVAE
from talkverse_jax.models.wan.config import WanConfig

Size = tuple[int, int, int]  # latent frames, rows, columns; of a product: rows, inputs, outputs
SIZES: dict[str, tuple[Size, ...]] = {
    "call": ((3, 8, 12), (6, 16, 16)),
    "decode": ((2, 6, 6),),
    "encode": ((2, 6, 6),),
}


class Seconds(NamedTuple):
    """That passed, and that a process had of the processor."""

    wall: float
    cpu: float


Timed = Callable[[str, Size], Seconds]


@cache
def full_width(num_layers: int = 4) -> TalkVerseConfig:
    """The published widths with fewer blocks: 1.0 billion parameters."""
    trunk = WanConfig.ti2v_5b().__dict__ | {"num_layers": num_layers}
    real = TalkVerseConfig.talkverse_5b().__dict__
    return TalkVerseConfig(**real | {"trunk": WanConfig(**trunk), "audio_inject_layers": (0, 3)})


@cache
def transformer() -> TalkVerse:
    return jax.jit(lambda: TalkVerse(full_width(), rngs=nnx.Rngs(0)))()


@cache
def vae() -> WanVAE:
    return jax.jit(lambda: WanVAE(VAEConfig.wan22(), rngs=nnx.Rngs(0)))()


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


@jax.jit
def linear(x, kernel, bias):
    return x @ kernel + bias


@cache
def our_program(name: str, size: Size) -> Callable[[], Any]:
    """A program with its inputs."""
    frames, rows, columns = size
    if name == "call":
        inputs = random_inputs(full_width(), *size)
        return lambda: call(transformer(), *inputs)
    if name == "product":
        x, kernel, bias = jnp.ones((1, frames, rows)), jnp.ones((rows, columns)), jnp.ones(columns)
        return lambda: linear(x, kernel, bias)
    if name == "decode":
        latents = jax.random.normal(jax.random.key(1), (1, *size, vae().config.z_dim))
        run = jax.jit(WanVAE.decode)
        return lambda: run(vae(), latents)
    stride = vae().config.space_stride
    video = jax.random.normal(jax.random.key(2), (1, 4 * frames - 3, rows * stride, columns * stride, 3))
    run = jax.jit(WanVAE.encode)
    return lambda: run(vae(), video)


def ours(name: str, size: Size) -> Seconds:
    """One run of ours."""
    program, begin, cpu = our_program(name, size), time.perf_counter(), time.process_time()
    jax.block_until_ready(program())
    return Seconds(time.perf_counter() - begin, time.process_time() - cpu)


@contextmanager
def original(clone: Path, python: str, threads: int) -> Iterator[Timed]:
    """One run of the original's, which benchmarks/original.py keeps ready in its own Python."""
    script = Path(__file__).with_name("original.py")
    command = [python, str(script), str(clone), "--threads", str(threads)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin and process.stdout and process.stderr

        def timed(name: str, size: Size) -> Seconds:
            try:
                print(name, "x".join(map(str, size)), file=process.stdin, flush=True)
                wall, cpu = map(float, process.stdout.readline().split())
            except (BrokenPipeError, ValueError):
                reason = (process.stderr.read().strip().splitlines() or ["it stopped"])[-1]
                raise UserError(f"--original {clone}: {reason}") from None
            return Seconds(wall, cpu)

        yield timed
        process.stdin.close()


def in_turns(programs: dict[str, Timed], name: str, size: Size, turns: int) -> dict[str, Seconds]:
    """The median of each."""
    runs = {of: [] for of in programs}
    for turn in range(turns + 1):
        for of, timed in programs.items():
            seconds = timed(name, size)
            if turn:  # the first compiles, or warms up
                runs[of].append(seconds)
    return {of: Seconds(*map(statistics.median, zip(*seconds))) for of, seconds in runs.items()}


def flops(name: str, size: Size) -> int:
    """Of products, convolutions and attention."""
    frames, rows, columns = size
    if name == "call":
        options = dict(frames=frames, h=rows, w=columns, motion=True, branches=1)
        return step_flops(full_width(), **options) + prepare_flops(full_width(), **options)
    config = VAEConfig.wan22()
    if name == "decode":
        return decode_flops(config, *size)
    stride = config.space_stride
    return encode_flops(config, 4 * frames - 3, rows * stride, columns * stride)


def product_rates(programs: dict[str, Timed], size: Size, turns: int) -> dict[str, Seconds]:
    """FLOP/s of the linear layers of a block's size, each as often as a block has it."""
    trunk, (frames, rows, columns) = full_width().trunk, size
    tokens = clip_tokens(full_width(), frames, rows, columns, motion=True)[1]
    shapes = {(tokens, trunk.dim, trunk.dim): 6, (tokens, trunk.dim, trunk.ffn_dim): 1}
    shapes |= {(tokens, trunk.ffn_dim, trunk.dim): 1, (trunk.text_len, trunk.dim, trunk.dim): 2}
    total, seconds = 0, {of: [0.0, 0.0] for of in programs}
    for (length, inputs, outputs), times in shapes.items():
        total += 2 * times * length * inputs * outputs
        for of, median in in_turns(programs, "product", (length, inputs, outputs), turns).items():
            seconds[of] = [so_far + times * more for so_far, more in zip(seconds[of], median)]
    return {of: Seconds(*(total / each for each in both)) for of, both in seconds.items()}


def measure(programs: dict[str, Timed], name: str, size: Size, turns: int) -> dict[str, Any]:
    """A program of each in turns: printed, and returned as figures."""
    found, count = in_turns(programs, name, size, turns), flops(name, size)
    figures: dict[str, Any] = {"flops": count} | {of: seconds._asdict() for of, seconds in found.items()}
    line = "; ".join(f"{of} {wall:.2f} s, cpu {cpu:.2f} s" for of, (wall, cpu) in found.items())
    if "original" in found:
        figures["ratio"] = Seconds(*(a / b for a, b in zip(found["ours"], found["original"])))._asdict()
        line += f"; ratio {figures['ratio']['wall']:.2f}, cpu {figures['ratio']['cpu']:.2f}"
    print(f"{name:>7} {'x'.join(map(str, size)):>8}  {line}", flush=True)
    if name == "call":
        rates = product_rates(programs, size, turns)
        shares = {of: count / rate.cpu / found[of].cpu for of, rate in rates.items()}
        figures |= {"products_flops_a_cpu_second": {of: rate.cpu for of, rate in rates.items()}, "products": shares}
        told = "; ".join(f"{of} {rates[of].cpu / 1e9:.0f} GFLOP/s, {share:.0%} of it" for of, share in shares.items())
        print(f"{'':>16}  its {count / 1e9:.0f} GFLOP as products alone: {told}", flush=True)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--original", type=Path, metavar="CLONE", help="a checkout of the original program")
    parser.add_argument(
        "--original_python",
        default=sys.executable,
        metavar="PYTHON",
        help="the Python that has the original's requirements (default: this one)",
    )
    parser.add_argument("--turns", type=int, default=7, help="timed runs of each (default: 7)")
    parser.add_argument("--threads", type=int, default=2, help="and cores of both programs (default: 2)")
    parser.add_argument("--programs", nargs="+", choices=SIZES, default=tuple(SIZES), help="(default: all)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write the figures")
    args = parser.parse_args()

    cores = sorted(os.sched_getaffinity(0))[-args.threads :]
    os.sched_setaffinity(0, cores)  # before XLA counts them
    programs: dict[str, Timed] = {"ours": ours}
    figures: dict[str, Any] = {"jax": jax.__version__, "threads": len(cores)}
    with ExitStack() as stack:
        if args.original:
            beside = original(args.original, args.original_python, len(cores))
            programs["original"] = stack.enter_context(beside)
        for name in args.programs:
            for size in SIZES[name]:
                figures[f"{name} {'x'.join(map(str, size))}"] = measure(programs, name, size, args.turns)
                if args.json:
                    args.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    run_command(main)
