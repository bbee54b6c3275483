"""What `warm` compiles is what a run calls."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from talkverse_jax.cli import main
from talkverse_jax.core.errors import UserError
from talkverse_jax.families.talkverse.family import FAMILY
from talkverse_jax.families.talkverse.settings import Settings
from talkverse_jax.pipeline.machine import Machine
from tests.processes import ROOT
from tests.run.test_worker import arguments  # noqa: F401

# Of these a run calls no other; the rest takes milliseconds to compile.
LARGE = ("_look_up", "_run", "every_second_state", "encode", "prepare", "denoising_step", "decode")
PLAIN = """
import sys
from talkverse_jax.cli.main import run
run(sys.argv[1:])
"""


def _run(folder: Path, *argv: str, devices: int = 1) -> str:
    spoiling = "JAX_DISABLE_MOST_OPTIMIZATIONS" if "--topology" in argv else None  # for CPUs alone
    environ = {name: value for name, value in os.environ.items() if name != spoiling}
    environ |= {"JAX_PLATFORMS": "cpu", "JAX_COMPILATION_CACHE_DIR": str(folder)}
    environ |= {"XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}"}
    done = subprocess.run(
        [sys.executable, "-c", PLAIN, *argv], env=environ, cwd=ROOT, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def _kept(folder: Path) -> set[str]:
    return {path.name for name in LARGE for path in folder.glob(f"jit_{name}-*-cache")}


def _change(path: str, **values: str) -> None:
    """Set options of a TOML file."""
    lines = [line for line in Path(path).read_text().splitlines() if line.split(" = ")[0] not in values]
    Path(path).write_text("\n".join([*lines, *(f"{name} = {value}" for name, value in values.items())]) + "\n")


@pytest.fixture
def config(arguments, tmp_path):  # noqa: F811
    """A file with the options of a run of the tiny model; two clips."""
    given = {name: str(value) if isinstance(value, Path) else value for name, value in arguments.items()}
    path = tmp_path / "run.toml"
    lines = [
        f"{name} = {str(value).lower() if isinstance(value, bool) else repr(value)}" for name, value in given.items()
    ]
    path.write_text("\n".join(lines) + "\n")
    return str(path)


@pytest.mark.slow
@pytest.mark.parametrize("student, mesh", [(False, None), (False, "fsdp=2,tensor=2,context=2"), (True, None)])
def test_a_run_compiles_none_of_what_is_warm(config, tmp_path, student, mesh):
    if student:
        _change(config, sample_solver="'renoise'", sample_guide_scale="1.0")
    folder, devices = tmp_path / "kept", 1 if mesh is None else 8
    options = ["--config", config, *([] if mesh is None else ["--mesh", mesh])]
    said = _run(folder, "warm", *options, "--size", "128x128", devices=devices)
    assert said.count(": compiled, ") >= 16 and said.splitlines()[-1] == f"kept in {folder}"
    warmed = _kept(folder)
    _run(folder, "sample", *options, devices=devices)
    assert _kept(folder) == warmed
    again = _run(folder, "warm", *options, "--size", "128x128", "--programs", "step*", "decode*", devices=devices)
    assert again.count(": is there, ") == 4 and ": compiled" not in again


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="libtpu is not installed")
def test_programs_of_a_tpu_are_kept_without_one(tmp_path):
    options = ("--topology", "v6e-1", "--config", "demo", "--model", "model_tiny", "--programs", "prepare, first clip")
    assert _run(tmp_path, "warm", *options).startswith("prepare, first clip: compiled, ")
    assert _run(tmp_path, "warm", *options).startswith("prepare, first clip: is there, ")


@pytest.mark.parametrize(
    "options, complaint",
    [
        ([], "--config missing; give the options of a run"),
        (["--config", "demo", "--topology", "v7"], "--topology v7: unknown"),
        (["--config", "demo", "--topology", "H100-1"], "compiles for a GPU on a GPU only"),
        (["--config", "demo", "--batch_size", "0"], "--batch_size 0: "),
        (
            ["--config", "demo", "--model", "model_tiny", "--weights", "weights"],
            "--weights cannot be given with --model",
        ),
        (["--config", "train_tiny"], "is a preset of another command"),
    ],
)
def test_bad_options_are_refused(options, complaint, monkeypatch, tmp_path):
    monkeypatch.setattr("talkverse_jax.core.compile_cache.enable", lambda: str(tmp_path))
    with pytest.raises(UserError, match=complaint):
        main.run(["warm", *options])


def test_without_a_folder_nothing_is_compiled(monkeypatch):
    monkeypatch.setattr("talkverse_jax.core.compile_cache.enable", lambda: None)
    with pytest.raises(UserError, match="programs are not kept"):
        main.run(["warm", "--config", "demo", "--topology", "cpu"])


def test_a_pack_is_denoised_together_and_decoded_alone():
    settings = Settings(prompt="", size_bucket="tiny-128", infer_frames=80)
    configs = FAMILY.configs_from_toml(ROOT / "configs" / "model_tiny.toml")
    made = FAMILY.calls(configs, settings, Machine(), (128, 128), None, None, 3).made
    assert {x.shape[0] for x in made["prepare"]().args[1:]} == {3} and made["decode"]().args[2].shape[0] == 1
