"""Installed, not cloned: both wheels in an environment of their own, and every command in an empty folder."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from talkverse_jax.cli.main import COMMANDS
from tests.processes import ROOT

pytestmark = pytest.mark.slow

_TOY_LIMIT = 20e6  # bytes


def _wheel(source: Path, folder: Path) -> Path:
    """Build without a network, from a copy: setuptools would leave its work in the source."""
    copy = folder / f"source_{source.name}"
    ignored = shutil.ignore_patterns(".git", ".venv", "outputs", "build", "dist", "*.egg-info", "tests", "__pycache__")
    shutil.copytree(source, copy, symlinks=True, ignore=ignored)
    command = [sys.executable, "-m", "pip", "wheel", "--no-build-isolation", "--no-deps", "--wheel-dir"]
    subprocess.run([*command, folder / copy.name / "dist", copy], check=True, capture_output=True)
    [wheel] = (copy / "dist").glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def wheels(tmp_path_factory) -> list[Path]:
    folder = tmp_path_factory.mktemp("wheels")
    return [_wheel(ROOT, folder), _wheel(ROOT / "assets", folder)]


class Installed:
    """An environment with our wheels, the libraries of this one, and nothing of the clone."""

    def __init__(self, folder: Path, wheels: list[Path]):
        self.work, environment = folder / "work", folder / "environment"
        self.work.mkdir(parents=True)
        venv.create(environment, with_pip=False)
        self.bin = environment / "bin"
        pip = [sys.executable, "-m", "pip", "--python", self.bin / "python", "install", "--no-deps", "--no-index"]
        subprocess.run([*pip, *wheels], check=True, capture_output=True, env=self._environ())
        [packages] = environment.glob("lib/python*/site-packages")
        # The path alone: a .pth that lies there, such as that of our own editable installation, is not read.
        (packages / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")

    def __call__(self, *words: str | Path) -> str:
        """Run a command of the environment in an empty folder; what it prints."""
        done = subprocess.run(
            [self.bin / words[0], *words[1:]], cwd=self.work, env=self._environ(), capture_output=True, text=True
        )
        assert done.returncode == 0, f"{words}: {done.stderr}"
        return done.stdout

    @staticmethod
    def _environ() -> dict[str, str]:
        """Nothing that leads back to the clone."""
        return {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}


@pytest.fixture(scope="module")
def installed(wheels, tmp_path_factory) -> Installed:
    return Installed(tmp_path_factory.mktemp("installed"), wheels)


def test_the_wheels_hold_what_they_should(wheels):
    program, toy = (set(zipfile.ZipFile(wheel).namelist()) for wheel in wheels)
    presets = {path.relative_to(ROOT / "configs").as_posix() for path in (ROOT / "configs").rglob("*.toml")}
    assert {f"talkverse_jax/presets/{preset}" for preset in presets} <= program
    assert "talkverse_jax/py.typed" in program
    assert not [name for name in program if name.startswith(("tests", "assets", "benchmarks"))]
    assert {"talkverse_jax_toy/face.png", "talkverse_jax_toy/toy/talkverse_s2v_5b.safetensors"} <= toy
    assert wheels[1].stat().st_size < _TOY_LIMIT


def test_what_runs_is_the_wheel(installed):
    where = installed("python", "-c", "import talkverse_jax; print(talkverse_jax.__file__)")
    assert Path(where.strip()).is_relative_to(installed.bin.parent)


def test_every_command_explains_itself(installed):
    assert all(name in installed("talkverse-jax", "--help") for name in COMMANDS)
    for name in COMMANDS:
        assert "usage:" in installed("talkverse-jax", name, "--help"), name


def test_a_plan_by_the_names_of_presets(installed):
    assert "fits" in installed("talkverse-jax", "plan", "--topology", "H100-1", "--config", "sample_480")


def test_the_toy_model_talks(installed):
    toy = Path(installed("python", "-m", "talkverse_jax_toy").strip())
    published = toy / "toy"
    installed(
        *("talkverse-jax", "convert", "--config", "model_toy", "--output", "weights"),
        *("--ckpt_dir", published / "Wan2.2-TI2V-5B", "--lora_ckpt", published / "talkverse_s2v_5b.safetensors"),
        *("--wav2vec_dir", published / "wav2vec2-large-xlsr-53-english"),
    )
    installed(
        *("talkverse-jax", "sample", "--config", "demo", "--weights", "weights", "--num_clip", "1"),
        *("--image", toy / "face.png", "--audio", toy / "speech.flac", "--output", "talk.mp4"),
    )
    installed("talkverse-jax", "contact-sheet", "talk.mp4", "sheet.png")
    assert (installed.work / "talk.mp4").stat().st_size > 20_000 and (installed.work / "sheet.png").exists()
