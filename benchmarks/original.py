"""Seconds of the original's float32 programs on a CPU, on request (see benchmarks/cpu.py).

    PYTHON benchmarks/original.py CLONE [--threads 2]

PYTHON is one that has torch and the original's requirements (jax is not needed). Weights and inputs are random. A line
of standard input names a program and its latent frames, rows and columns, "call 3x8x12", "decode 4x8x8" or "encode
4x8x8"; or a product's rows, inputs and outputs, "product 240x3072x14336". Each is run once, and answered with the
seconds that passed and those of the processor. Holds 4 GB of weights for calls, 3 GB for decode and encode.
"""

from __future__ import annotations  # torch is imported when it is known to be there

import argparse
import functools
import importlib.util
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # PYTHON need not have this package installed

from talkverse_jax.cli.command import run_command
from talkverse_jax.core.errors import UserError
from talkverse_jax.families.talkverse.original.clone import use_clone
from talkverse_jax.families.talkverse.original.inputs import MOTION_FRAMES

Sizes = tuple[int, int, int]


@functools.cache
def random_dit(num_layers: int = 4) -> torch.nn.Module:
    """The original's DiT of full width with few blocks: 1.0 billion parameters."""
    import torch

    from talkverse_jax.families.talkverse.original.models import create_dit, fill

    model = create_dit({"num_layers": num_layers, "audio_inject_layers": [0, 3]})
    shapes = {name: parameter.shape for name, parameter in model.state_dict().items()}
    return fill(model, {name: 0.02 * torch.randn(shape) for name, shape in shapes.items()}, "random weights")


@functools.cache
def random_vae() -> Any:
    """The original's VAE as its constructor leaves it."""
    from talkverse_jax.families.talkverse.original.exact import load

    sizes = dict(z_dim=48, dim=160, dec_dim=256, temperal_downsample=[False, True, True])
    return load("wan.modules.vae2_2").WanVAE_(**sizes).eval().requires_grad_(False)


def call(frames: int, rows: int, columns: int) -> Callable[[], Any]:
    """One call of the DiT with motion context, the text at its full length of 512."""
    import torch

    from talkverse_jax.families.talkverse.original.runs import predict_velocity

    given = {
        "latents": torch.randn(1, 48, frames, rows, columns),
        "ref_latents": torch.randn(1, 48, 1, rows, columns),
        "motion_latents": torch.randn(1, 48, MOTION_FRAMES[1], rows, columns),
        "timestep": torch.tensor([600.0]),
        "context": torch.randn(1, 512, 4096),
        "audio": torch.randn(1, 25, 1024, 4 * frames),
    }
    return lambda: predict_velocity(random_dit(), given, MOTION_FRAMES, first_clip=False)


def decode(frames: int, rows: int, columns: int) -> Callable[[], Any]:
    """Latents decoded."""
    import torch

    latents = torch.randn(1, 48, frames, rows, columns)
    return lambda: random_vae().decode(latents, [0.0, 1.0])


def encode(frames: int, rows: int, columns: int) -> Callable[[], Any]:
    """A video of one frame and then fours encoded."""
    import torch

    video = torch.randn(1, 3, 4 * frames - 3, 16 * rows, 16 * columns)
    return lambda: random_vae().encode(video, [0.0, 1.0])


def product(rows: int, inputs: int, outputs: int) -> Callable[[], Any]:
    """A linear layer."""
    import torch

    x, weight, bias = torch.randn(1, rows, inputs), torch.randn(outputs, inputs), torch.randn(outputs)
    return lambda: torch.nn.functional.linear(x, weight, bias)


PROGRAMS = {"call": call, "decode": decode, "encode": encode, "product": product}


@functools.cache
def program(name: str, sizes: Sizes) -> Callable[[], Any]:
    """One of them, with its inputs."""
    return PROGRAMS[name](*sizes)


def main() -> None:
    parser = argparse.ArgumentParser(description="Time the original's programs on the CPU.")
    parser.add_argument("clone", type=Path, help="a clone of the original TalkVerse")
    parser.add_argument("--threads", type=int, default=2, help="(default: 2)")
    args = parser.parse_args()

    if importlib.util.find_spec("torch") is None:
        raise UserError("torch: not installed in this Python; give the one that the original runs in")
    import torch

    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    use_clone(args.clone.resolve())
    for line in sys.stdin:
        name, size = line.split()
        frames, rows, columns = map(int, size.split("x"))
        run = program(name, (frames, rows, columns))
        begin, cpu = time.perf_counter(), time.process_time()
        with torch.no_grad():
            run()
        print(time.perf_counter() - begin, time.process_time() - cpu, flush=True)


if __name__ == "__main__":
    run_command(main)
