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
    "step": {"tokens", "attention", "prepare_seconds", "seconds_a_step", "mfu", "peak_bytes", "kernel_ms"},
    "original": set(),
    "decode": {"dtype", "seconds_to_decode", "seconds_to_encode", "decode_flops", "peak_bytes"},
    "attention": {"kernels", "not_run", "peak_bytes"},
    "products": {"products", "peak_bytes"},
    "int8": {"relative_distance", "seconds_a_step", "weight_bytes", "peak_bytes"},
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


@pytest.mark.parametrize(
    "part", ["goldens", *(pytest.param(part, marks=pytest.mark.slow) for part in ("step", "products"))]
)
def test_a_part_needs_jax_flax_and_numpy_alone(bare_machine, tmp_path, part):
    code, found, printed = run_gpu(bare_machine, tmp_path / "gpu.json", "--part", part)
    assert code == 0, printed
    assert FIGURES[part] <= found[part].keys()
    assert len(numbers(found)) > 0 and np.isfinite(numbers(found)).all() and min(numbers(found)) > 0
    assert all(line.startswith(f"{part}: ") for line in printed.splitlines() if "Warning" not in line), printed


@pytest.mark.slow
def test_all_parts_run_one_after_the_other(bare_machine, tmp_path):
    code, found, printed = run_gpu(bare_machine, tmp_path / "gpu.json", "--budget", "3000", "--limit", "900")
    assert code == 0, printed
    assert found["failed"] == {} and found["size"] == "tiny"
    assert all(names <= found[part].keys() for part, names in FIGURES.items())
    assert found["left_out"] == {} and found["seconds"].keys() == FIGURES.keys()
    assert found["precision"]["passed"] and min(found["precision"]["cosines"]) > 0.999
    kernels, not_run = (found["attention"][name] for name in ("kernels", "not_run"))
    assert {"xla", "triton (64, 64)"} <= kernels.keys() and {"cudnn", "mosaic_gpu (64, 128, 2)"} <= not_run.keys()
    assert max(row["error"] for row in kernels.values()) < 0.01
    assert found["int8"]["relative_distance"] < 0.03
    parts = found["clip"].copy()
    assert np.isclose(parts.pop("seconds"), sum(parts.values())) and min(parts.values()) > 0
    assert np.isfinite(numbers(found)).all()


def test_a_kernel_that_cannot_run_is_an_error(bare_machine, tmp_path):
    code, found, printed = run_gpu(bare_machine, tmp_path / "gpu.json", "--part", "step", "--attention", "cudnn")
    assert code == 2 and "--attention cudnn: it runs on NVIDIA GPUs, not on a cpu" in printed
    assert "seconds_a_step" not in found["step"]


@pytest.mark.slow
def test_our_step_beside_plain_pytorch(tmp_path):
    pytest.importorskip("torch")
    code, found, printed = run_gpu({**os.environ, "PYTHONPATH": str(ROOT)}, tmp_path / "gpu.json", "--part", "original")
    assert code == 0, printed
    assert min(found["original"]["cosines"]) > 0.9999
    assert all(len(seconds) == 2 for seconds in found["original"]["seconds"].values())


def test_parts_that_do_not_end_are_left_and_those_behind_the_time_not_begun(bare_machine, tmp_path):
    options = "--limit", "0.1", "--budget", "0.2"
    code, found, printed = run_gpu(bare_machine, tmp_path / "gpu.json", *options)
    failed, left_out = found["failed"], found["left_out"]
    assert code == 1 and [*failed, *left_out] == [*FIGURES] and failed and left_out
    assert set(failed.values()) == {"not done after 0.1 s"} and set(left_out.values()) == {"0.2 s were over"}
    assert printed.count("FAILED: not done after 0.1 s") == len(failed)
