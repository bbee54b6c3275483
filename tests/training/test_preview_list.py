"""A file of preview videos."""

import json

import pytest

from talkverse_jax.core.errors import UserError
from talkverse_jax.families.talkverse.settings import TrainingSettings
from talkverse_jax.families.talkverse.training import TRAINING
from talkverse_jax.pipeline.training import PreviewRequest
from talkverse_jax.training.preview_list import read_previews

REQUEST = PreviewRequest("own.png", "own.wav", "A person talks.", "fasttalk-480", 120, 20, 3)


def read(tmp_path, *rows, request=REQUEST):
    path = tmp_path / "previews.jsonl"
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows))
    return read_previews(str(path), "talkverse", request, lambda asked: TRAINING.preview(asked, TrainingSettings()))


def test_lines_with_their_own_files_and_settings(tmp_path):
    smile = {"id": "smile", "image": "a.png", "audio": "/b.wav", "prompt": "She smiles.", "seed": 9, "sample_steps": 4}
    first, *both = read(tmp_path, smile, "", {"guidance": "both"})
    assert (first.name, *[each.name for each in both]) == ("smile", "3", "3-unguided")
    plain = TRAINING.preview(REQUEST, TrainingSettings())
    own = {"image": str(tmp_path / "a.png"), "audio": "/b.wav", "prompt": "She smiles."}
    assert first.values == plain | own | {"base_seed": 9, "sample_steps": 4}
    assert both[0].values == plain and both[1].values == plain | {"sample_guide_scale": 1.0}


def test_guidance_of_its_own(tmp_path):
    strong, weak = read(tmp_path, {"guidance": "both", "sample_guide_scale": 7.0, "id": "x"})
    assert strong.values["sample_guide_scale"] == 7.0 and weak.values["sample_guide_scale"] == 1.0
    [alone] = read(tmp_path, {"guidance": "without", "id": "x"})
    assert alone.name == "x" and alone.values["sample_guide_scale"] == 1.0


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (["{"], r"previews.jsonl line 1, column 2: not JSON"),
        (["[1]"], "line 1: .* is no object; give image, audio and prompt by their names"),
        ([{"id": "../x"}], "line 1: id .*: no name for files"),
        ([{"guidance": "no"}], "line 1: guidance .*: give with, without, both"),
        ([{"sample_step": 3}], "line 1: unknown key .*; did you mean 'sample_steps'"),
        ([{"sample_steps": 0}], "line 1: sample_steps: 0: give 1 or more"),
        ([{"id": "a"}, {"id": "a"}], "two previews have the id 'a'"),
        ([{"guidance": []}], "line 1: guidance .*: give with, without, both"),
        ([""], "no previews in it"),
    ],
)
def test_lines_that_are_no_previews(tmp_path, rows, words):
    with pytest.raises(UserError, match=words):
        read(tmp_path, *rows)
    with pytest.raises(UserError, match="line 1: needs image and audio"):
        read(tmp_path, {"image": "a.png"}, request=REQUEST._replace(audio=""))
