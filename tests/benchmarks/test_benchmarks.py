"""`benchmarks/gpu.py` at tiny size on a CPU, without the packages that a bare GPU machine lacks."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
ABSENT = (
    *("av", "ftfy", "grain", "huggingface_hub", "librosa", "orbax", "orbax.checkpoint", "PIL", "safetensors"),
    *("sentencepiece", "tensorstore", "tokenizers", "tqdm", "transformers"),
)
FIGURES = {
    "step": {"tokens", "attention", "prepare_seconds", "seconds_a_step", "mfu", "peak_bytes"},
    "decode": {"dtype", "seconds_to_decode", "seconds_to_encode", "decode_flops", "peak_bytes"},
    "precision": {"attention", "cosines", "passed"},
    "goldens": {"errors", "passed"},
    "convs": {"seconds"},
}


@pytest.fixture(scope="module")
def bare_machine(tmp_path_factory):
    """The environment of a Python, and of those it starts, that finds none of the absent packages."""
    folder = tmp_path_factory.mktemp("bare")
    (folder / "sitecustomize.py").write_text(f"import sys\nsys.modules |= dict.fromkeys({ABSENT})\n")
    found = {**os.environ, "PYTHONPATH": f"{folder}:{ROOT}"}
    run = subprocess.run([sys.executable, "-c", "import av"], capture_output=True, text=True, env=found)
    assert "import of av halted" in run.stderr
    return found


def run_gpu(environment, path, *options: str) -> tuple[int, dict, str]:
    """Exit code, figures, and what was printed."""
    command = [sys.executable, str(ROOT / "benchmarks" / "gpu.py"), "--size", "tiny", "--json", str(path), *options]
    run = subprocess.run(command, capture_output=True, text=True, env=environment)
    return run.returncode, json.loads(path.read_text()), run.stdout + run.stderr


def numbers(value) -> list[float]:
    """All of them, however deep."""
    if isinstance(value, dict):
        value = list(value.values())
    return sum(map(numbers, value), []) if isinstance(value, list) else [value] * isinstance(value, int | float)


@pytest.mark.parametrize("part", [pytest.param("step", marks=pytest.mark.slow), "goldens", "convs"])
def test_a_part_needs_jax_flax_and_numpy_alone(bare_machine, tmp_path, part):
    code, found, printed = run_gpu(bare_machine, tmp_path / "gpu.json", "--part", part)
    assert code == 0, printed
    assert FIGURES[part] <= found[part].keys()
    assert len(numbers(found)) > 0 and np.isfinite(numbers(found)).all() and min(numbers(found)) > 0
    assert all(line.startswith(f"{part}: ") for line in printed.splitlines() if "Warning" not in line), printed


@pytest.mark.slow
def test_all_parts_run_one_after_the_other(bare_machine, tmp_path):
    code, found, printed = run_gpu(bare_machine, tmp_path / "gpu.json")
    assert code == 0, printed
    assert found["failed"] == {} and found["size"] == "tiny"
    assert all(names <= found[part].keys() for part, names in FIGURES.items())
    assert found["precision"]["passed"] and min(found["precision"]["cosines"]) > 0.999
    parts = found["clip"].copy()
    assert np.isclose(parts.pop("seconds"), sum(parts.values())) and min(parts.values()) > 0
    assert np.isfinite(numbers(found)).all()


def test_a_kernel_that_cannot_run_is_an_error(bare_machine, tmp_path):
    code, found, printed = run_gpu(bare_machine, tmp_path / "gpu.json", "--part", "step", "--attention", "cudnn")
    assert code == 2 and "--attention cudnn: it runs on NVIDIA GPUs, not on a cpu" in printed
    assert "seconds_a_step" not in found["step"]


def test_parts_that_do_not_end_are_left(bare_machine, tmp_path):
    code, found, printed = run_gpu(bare_machine, tmp_path / "gpu.json", "--limit", "0.1")
    assert code == 1 and found == {"failed": dict.fromkeys(FIGURES, "not done after 0.1 s")}
    assert printed.count("FAILED: not done after 0.1 s") == len(FIGURES)
