"""Seconds of one float32 call of the original's DiT at the published widths (4 of 30 blocks), on request.

    PYTHON benchmarks/original.py CLONE [--threads 2]

PYTHON is one that has torch and the original's requirements (jax is not needed). Weights and inputs are random.
For every line of standard input that names a size ("3x8x12": latent frames, rows, columns) it makes one call and
prints its seconds, so that benchmarks/dit_cpu.py can let both programs take turns. Holds 4 GB of weights.
"""

from __future__ import annotations  # torch is imported when it is known to be there

import argparse
import importlib.util
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # PYTHON need not have this package installed

from talkverse_jax.cli.command import run_command
from talkverse_jax.core.errors import UserError
from talkverse_jax.families.talkverse.original.clone import use_clone
from talkverse_jax.families.talkverse.original.inputs import MOTION_FRAMES


def random_dit(num_layers: int = 4) -> torch.nn.Module:
    """The original's DiT of full width with few blocks: 1.0 billion parameters."""
    import torch

    from talkverse_jax.families.talkverse.original.models import create_dit, fill

    model = create_dit({"num_layers": num_layers, "audio_inject_layers": [0, 3]})
    shapes = {name: parameter.shape for name, parameter in model.state_dict().items()}
    return fill(model, {name: 0.02 * torch.randn(shape) for name, shape in shapes.items()}, "random weights")


def random_inputs(frames: int, height: int, width: int) -> dict[str, torch.Tensor]:
    """Inputs of one call with motion context, the text at its full length of 512."""
    import torch

    return {
        "latents": torch.randn(1, 48, frames, height, width),
        "ref_latents": torch.randn(1, 48, 1, height, width),
        "motion_latents": torch.randn(1, 48, MOTION_FRAMES[1], height, width),
        "timestep": torch.tensor([600.0]),
        "context": torch.randn(1, 512, 4096),
        "audio": torch.randn(1, 25, 1024, 4 * frames),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Time the original's DiT on the CPU.")
    parser.add_argument("clone", type=Path, help="a clone of the original TalkVerse")
    parser.add_argument("--threads", type=int, default=2, help="(default: 2)")
    args = parser.parse_args()

    if importlib.util.find_spec("torch") is None:
        raise UserError("torch: not installed in this Python; give the one that the original runs in")
    import torch

    from talkverse_jax.families.talkverse.original.runs import predict_velocity

    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    use_clone(args.clone.resolve())
    model, inputs = random_dit(), {}
    for line in sys.stdin:
        size = tuple(map(int, line.split("x")))
        given = inputs.setdefault(size, random_inputs(*size))
        begin = time.perf_counter()
        predict_velocity(model, given, MOTION_FRAMES, first_clip=False)
        print(time.perf_counter() - begin, flush=True)


if __name__ == "__main__":
    run_command(main)
