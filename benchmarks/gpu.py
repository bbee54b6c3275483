"""The published sizes on a GPU, with random weights: is it right, how fast is it, how much memory does it take?

    python benchmarks/gpu.py --json gpu.json            all parts, one after the other: some ten minutes
    python benchmarks/gpu.py --part step                one of them
    python benchmarks/gpu.py --size tiny                minutes on a CPU, to try this program itself

  step       a denoising step of 120 frames at 640x640 with motion context, both branches of guidance, bfloat16
  decode     that clip decoded behind its motion latents, and the next clip's motion encoded
  precision  the velocity in bfloat16 against the same weights in float32 ("highest")
  goldens    the reference bundles in float32 ("highest")
  convs      the decoder's 3-D convolutions whole and as sums of 2-D ones (ops/conv.py chooses between the two)

Beside this package only jax, flax, numpy, einops and jaxtyping are needed. Each part is a process of its own, so
that its peak memory is its own, and that one which fails, even by a crash of the driver, leaves the others. Exit
code 1: a part failed or was too far off.
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
from pathlib import Path
from typing import Any

import jax
from gpu_parts import CLIP_STEPS, PARTS, PartReport, Workload

from talkverse_jax.cli.command import run_command

WANTED_CLIP_SECONDS = 45  # on one H200


def run_part(part: str, size: str, path: Path | None, **choices: str) -> bool:
    """Run a part here; whether it came out right."""
    job = dataclasses.replace({"full": Workload.full, "tiny": Workload.tiny}[size](), **choices)
    report = PartReport(part, size, path)
    with jax.default_matmul_precision("high"):  # as `sample.py` does in bfloat16
        PARTS[part](job, report)
    return report.figures.get("passed", True)


def run_all(size: str, path: Path | None, limit: float, **choices: str) -> bool:
    """Run every part in a process of its own; whether all came out right."""
    found: dict[str, Any] = {"failed": {}}
    environment = {"XLA_PYTHON_CLIENT_MEM_FRACTION": "0.9", **os.environ}
    with tempfile.TemporaryDirectory() as folder:
        for part in PARTS:
            result = Path(folder) / f"{part}.json"
            command = [sys.executable, __file__, "--part", part, "--size", size, "--json", str(result)]
            command += [word for name, choice in choices.items() for word in (f"--{name}", choice)]
            begin = time.perf_counter()
            try:
                code = subprocess.run(command, env=environment, timeout=limit).returncode
                reason = f"exit code {code}" if code else None
            except subprocess.TimeoutExpired:
                reason = f"not done after {limit:g} s"
            if result.exists():
                found |= json.loads(result.read_text())
            if reason:
                found["failed"][part] = reason
            verdict = f"FAILED: {reason}, " if reason else ""
            print(f"{part}: {verdict}{time.perf_counter() - begin:.0f} s in all\n", flush=True)
            _predict_clip(found)
            if path:
                path.write_text(json.dumps(found, indent=2) + "\n")
    return not found["failed"]


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
    parser.add_argument("--limit", type=float, default=240, metavar="SECONDS", help="for each of all parts")
    args = parser.parse_args()
    choices = {"attention": args.attention, "vae_dtype": args.vae_dtype}
    if args.part:
        right = run_part(args.part, args.size, args.json, **choices)
    else:
        right = run_all(args.size, args.json, args.limit, **choices)
    sys.exit(0 if right else 1)


if __name__ == "__main__":
    run_command(main)
