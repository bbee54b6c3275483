from pathlib import Path

import pytest

from talkverse_jax.core import presets
from talkverse_jax.core.errors import UserError


def test_a_path_comes_before_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert presets.find("sample_480") == presets.folder() / "sample_480.toml"
    assert presets.find("v6e-8", "mesh").name == "v6e-8.toml"
    (tmp_path / "sample_480").write_text("sample_steps = 1\n")
    assert presets.read("sample_480") == {"sample_steps": 1}


def test_the_nearest_is_named(tmp_path):
    with pytest.raises(UserError, match="sampel_480: no such file or preset; did you mean the preset sample_480?"):
        presets.find("sampel_480")
    with pytest.raises(UserError, match="configs/sample_720.toml: no such .* did you mean the preset sample_720?"):
        presets.find("elsewhere/configs/sample_720.toml")
    with pytest.raises(UserError, match="no such file or preset; the presets are .*best, demo, .*fast, good"):
        presets.find("zzzzzzz")
    with pytest.raises(UserError, match="is a folder"):
        presets.find(tmp_path)


def test_paths_from_the_files_own_folder(tmp_path):
    file = tmp_path / "run.toml"
    file.write_text('image = "{here}/face.png"\naudio = "sound.wav"\nfiles = ["{here}/../a", "b"]\nsteps = 2\n')
    assert presets.read(file) == {
        "image": f"{tmp_path}/face.png", "audio": "sound.wav", "files": [f"{tmp_path}/../a", "b"], "steps": 2
    }  # fmt: skip


def test_the_demo_is_found_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    values = presets.read("demo")
    assert all(Path(values[name]).read_bytes() for name in ("image", "audio"))
