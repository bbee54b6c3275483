"""The package as a Python program uses it: the README's own lines, and what is public."""

import os
import re
import shutil
import subprocess
import sys

import pytest

import talkverse_jax
from tests.processes import ROOT
from tests.run.test_worker import arguments, run  # noqa: F401


def test_importing_costs_nothing():
    code = "import sys, talkverse_jax; assert not {'jax', 'numpy', 'av'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_every_public_name_is_there():
    assert set(dir(talkverse_jax)) == set(talkverse_jax.__all__)
    for name in talkverse_jax.__all__:
        assert getattr(talkverse_jax, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'load_pipelines'"):
        talkverse_jax.load_pipelines  # noqa: B018


def test_the_lines_of_the_readme_make_the_video_of_sample_py(arguments, tmp_path, monkeypatch, capsys):  # noqa: F811
    """But for the size and the number of steps, which a test cannot wait for."""
    run(arguments)
    made = arguments["output"].read_bytes()
    [lines] = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    assert len([line for line in lines.splitlines() if line.strip()]) <= 6
    folder = tmp_path / "person"
    folder.mkdir()
    monkeypatch.chdir(folder)
    os.symlink(arguments["weights"], "weights")
    shutil.copy(arguments["image"], "face.png")
    shutil.copy(arguments["audio"], "speech.wav")
    own = {name: arguments[name] for name in arguments if name not in ("weights", "image", "audio", "output", "dtype")}
    lines = re.sub(r"prompt=\"[^\"]*\"", ", ".join(f"{name}={value!r}" for name, value in own.items()), lines)
    lines = lines.replace('load_pipeline("weights")', 'load_pipeline("weights", dtype="float32")')
    exec(lines, {})
    assert (folder / "talk.mp4").read_bytes() == made
    assert "(5, 128, 128, 3)" in capsys.readouterr().out
