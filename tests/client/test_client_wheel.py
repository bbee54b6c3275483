"""The client's own wheel, in an environment that has httpx and what httpx needs, and nothing else."""

import contextlib
import hashlib
import importlib.metadata
import re
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from tests.client.scripted import Answer, event, scripted, stream, told
from tests.processes import ROOT

pytestmark = pytest.mark.slow

_LIMIT = 80_000  # bytes


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Built without a network, from a copy."""
    folder = tmp_path_factory.mktemp("client")
    ignored = shutil.ignore_patterns("__pycache__", "build", "*.egg-info", "presets")
    for name in ("talkverse_jax", "integrations"):
        shutil.copytree(ROOT / name, folder / name, symlinks=True, ignore=ignored)
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-build-isolation",
        "--no-deps",
        "--wheel-dir",
        folder / "dist",
    ]
    subprocess.run([*command, folder / "integrations" / "client"], check=True, capture_output=True)
    [made] = (folder / "dist").glob("*.whl")
    return made


def _libraries(name: str, found: set[str]) -> set[str]:
    """A library and all that it needs here, by the names of their distributions."""
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):  # of another version of Python
        needed = importlib.metadata.requires(name) or ()
        found.add(name)
        for line in needed:
            [other] = re.findall(r"^[\w.-]+", line)
            if "extra ==" not in line and other not in found:
                _libraries(other, found)
    return found


@pytest.fixture(scope="module")
def environment(wheel, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("installed")
    venv.create(folder, with_pip=False)
    pip = [sys.executable, "-m", "pip", "--python", folder / "bin/python", "install", "--no-deps", "--no-index"]
    subprocess.run([*pip, wheel], check=True, capture_output=True)
    [packages] = folder.glob("lib/python*/site-packages")
    for name in _libraries("httpx", set()):
        library = importlib.metadata.distribution(name)
        for top in {file.parts[0] for file in library.files or ()} - {"..", "__pycache__"}:
            (packages / top).symlink_to(Path(str(library.locate_file(top))))
    return folder


def test_it_is_small_and_holds_nothing_that_computes(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert wheel.stat().st_size < _LIMIT
    packages = {name.split("/")[1] for name in names if name.startswith("talkverse_jax/")}
    assert packages == {"__init__.py", "cli", "client", "core"}


def test_it_makes_a_video_where_there_is_nothing_else(environment, tmp_path):
    (tmp_path / "face.png").write_bytes(b"a picture")
    done = told(status="completed", seed=7)
    content = Answer(200, b"a video", {"ETag": f'"{hashlib.sha256(b"a video").hexdigest()}"'})
    words = ["--image", "face.png", "--tts_text", "Hello.", "--prompt", "p", "--output", "talk.mp4"]
    with scripted() as server:
        server.will(told(), stream(event("completed", done, 1)), content)
        command = [environment / "bin/talkverse-jax-client", *words, "--server", server.address]
        ran = subprocess.run(command, cwd=tmp_path, env={}, capture_output=True, text=True)
    assert (ran.returncode, ran.stderr) == (0, "talk.mp4: 4.84 s of 128x128, seed 7\n")
    assert (tmp_path / "talk.mp4").read_bytes() == b"a video"


def test_jax_is_not_there(environment):
    code = "import importlib.util as u; print([name for name in ('jax', 'numpy', 'av') if u.find_spec(name)])"
    ran = subprocess.run([environment / "bin/python", "-c", code], env={}, capture_output=True, text=True, check=True)
    assert ran.stdout == "[]\n"
