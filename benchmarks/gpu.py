"""The published sizes on a GPU, with random weights: is it right, how fast is it, how much memory does it take?

    python benchmarks/gpu.py --json gpu.json            all parts, one after the other, in less than 8 minutes
    python benchmarks/gpu.py --part step                one of them
    python benchmarks/gpu.py --size tiny                minutes on a CPU, to try this program itself

  step       a denoising step of 120 frames at 640x640 with motion context, both branches of guidance, bfloat16; its
             MFU, and the kernels that take longest
  original   such a step of plain PyTorch with the same weights, in turns with ours; its attention by kernel
  decode     that clip decoded behind its motion latents, and the next clip's motion encoded
  attention  self-attention of a step by kernel: cuDNN, XLA, Mosaic GPU and Triton of Pallas, Tokamax
  products   the linear layers of a block in bfloat16, float8 and int8
  int8       the step with int8 kernels and products
  precision  the velocity in bfloat16 against the same weights in float32 ("highest")
  goldens    the reference bundles in float32 ("highest")
  convs      the decoder's 3-D convolutions whole and as sums of 2-D ones (ops/conv.py chooses between the two)

Beside this package only jax, flax, numpy, einops and jaxtyping are needed; `original` also needs torch, and a row of
`attention` Tokamax. What is missing or refuses to run is named in the figures. Each part is a process of its own, so
that its peak memory is its own, and that one which fails, even by a crash of the driver, leaves the others; they share
compiled programs. A part that the time no longer allows is left out, and said so. Exit code 1: a part failed or was
too far off.
"""

import argparse
import dataclasses
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
from gpu_kernels import attention, products
from gpu_original import original
from gpu_parts import convs, decode, goldens, precision
from gpu_report import PartReport
from gpu_step import int8, step
from gpu_workload import CLIP_STEPS, Workload

from talkverse_jax.cli.command import run_command

WANTED_CLIP_SECONDS = 45  # on one H200
LEAST_SECONDS = 15  # with less left, no part is begun

PARTS: dict[str, Callable[[Workload, PartReport], None]] = {
    part.__name__: part
    for part in (
        step,
        original,
        decode,
        attention,
        products,
        int8,
        precision,
        goldens,
        convs,
    )  # what matters most first
}


def run_part(part: str, size: str, path: Path | None, **choices: str) -> bool:
    """Run a part here; whether it came out right."""
    job = dataclasses.replace({"full": Workload.full, "tiny": Workload.tiny}[size](), **choices)
    report = PartReport(part, size, path)
    with jax.default_matmul_precision("high"):  # as `sample.py` does in bfloat16
        PARTS[part](job, report)
    return report.figures.get("passed", True)


def run_all(size: str, path: Path | None, budget: float, limit: float, **choices: str) -> bool:
    """Run every part in a process of its own; whether all that ran came out right."""
    found: dict[str, Any] = {"failed": {}, "left_out": {}, "seconds": {}}
    end = time.monotonic() + budget
    options = ["--size", size] + [word for name, choice in choices.items() for word in (f"--{name}", choice)]
    with tempfile.TemporaryDirectory() as folder:
        for part in PARTS:
            left = min(limit, end - time.monotonic())
            if left < min(LEAST_SECONDS, limit):
                found["left_out"][part] = f"{budget:g} s were over"
                print(f"{part}: left out, {budget:g} s are over\n", flush=True)
            else:
                _run_apart(part, options, Path(folder), left, found)
            if path:
                path.write_text(json.dumps(found, indent=2) + "\n")
    return not found["failed"]


def _run_apart(part: str, options: list[str], folder: Path, limit: float, found: dict[str, Any]) -> None:
    """Add a part's figures to what is found, from a process of its own."""
    result, begin = folder / f"{part}.json", time.monotonic()
    command = [sys.executable, __file__, "--part", part, *options, "--json", str(result)]
    try:
        code = subprocess.run(command, env=_environment(part, folder), timeout=limit).returncode
        reason = f"exit code {code}" if code else None
    except subprocess.TimeoutExpired:
        reason = f"not done after {limit:.3g} s"
    if result.exists():
        found |= json.loads(result.read_text())
    if reason:
        found["failed"][part] = reason
    seconds = found["seconds"][part] = time.monotonic() - begin
    print(f"{part}: {f'FAILED: {reason}, ' if reason else ''}{seconds:.0f} s in all\n", flush=True)
    _predict_clip(found)


def _environment(part: str, folder: Path) -> dict[str, str]:
    """Most of the device's memory, but where PyTorch needs room; and programs that other parts compiled."""
    return {
        "XLA_PYTHON_CLIENT_MEM_FRACTION": "0.9",
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false" if part == "original" else "true",
        "JAX_COMPILATION_CACHE_DIR": str(folder / "programs"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        **os.environ,
    }


def _predict_clip(found: dict[str, Any]) -> None:
    """A clip is its conditions, its steps, its decoding, and the encoding of the next one's motion."""
    of_step, of_vae = found.get("step", {}), found.get("decode", {})
    if "clip" in found or "seconds_a_step" not in of_step or "seconds_to_decode" not in of_vae:
        return
    shares = {
        "conditions": statistics.median(of_step["prepare_seconds"]),
        f"{CLIP_STEPS} steps": CLIP_STEPS * of_step["seconds_a_step"],
        "decoding": of_vae["seconds_to_decode"],
        "encoding": of_vae.get("seconds_to_encode", 0.0),
    }
    total, listed = sum(shares.values()), ", ".join(f"{name} {s:.2f}" for name, s in shares.items())
    found["clip"] = {"seconds": total, **shares}
    print(f"clip: {total:.1f} s ({listed}); wanted {WANTED_CLIP_SECONDS} on an H200\n", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--part", choices=PARTS, help="this one alone, in this process")
    parser.add_argument("--size", choices=("full", "tiny"), default="full")
    parser.add_argument("--attention", choices=("auto", "cudnn", "xla"), default="auto", help="in bfloat16")
    parser.add_argument("--vae_dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write the figures")
    parser.add_argument("--budget", type=float, default=470, metavar="SECONDS", help="for all parts together")
    parser.add_argument("--limit", type=float, default=150, metavar="SECONDS", help="for each of them")
    args = parser.parse_args()
    choices = {"attention": args.attention, "vae_dtype": args.vae_dtype}
    if args.part:
        right = run_part(args.part, args.size, args.json, **choices)
    else:
        right = run_all(args.size, args.json, args.budget, args.limit, **choices)
    sys.exit(0 if right else 1)


if __name__ == "__main__":
    run_command(main)
