"""People of one picture, each measured by the own sound."""

import csv
import json
import shutil

import pytest
from PIL import Image

from talkverse_jax.cli import evaluate as command
from talkverse_jax.core.errors import UserError
from talkverse_jax.data.metadata import read_metadata
from talkverse_jax.evaluate import speak as speaking
from talkverse_jax.evaluate.evaluate import evaluate
from talkverse_jax.evaluate.people import people_of
from talkverse_jax.pipeline import registry
from talkverse_jax.toy.make import make
from talkverse_jax.toy.make_options import MakeOptions


@pytest.fixture(scope="module")
def metadata(tmp_path_factory):
    """A video of two who both speak."""
    folder = str(tmp_path_factory.mktemp("people"))
    return make(MakeOptions(folder, 1, seed=3, set="held_out", seconds=4.0, people=(2,), workers=1))


def test_each_mouth_follows_its_own_sound_and_the_command_shows_it(metadata, tmp_path, capsys):
    folder = metadata.parent / "videos"
    command.main([str(folder), "--people", str(metadata), "--output", str(tmp_path / "out")], "evaluate")
    assert "in silence" in capsys.readouterr().out
    kept = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert [one["video"] for one in kept["videos"]] == ["held_out_00000 person 1", "held_out_00000 person 2"]
    for one in kept["videos"]:
        assert one["all"]["correlation"] > 0.9 and one["all"]["lag"] == 0
        assert one["all"]["correlation_swapped"] < 0.5
        assert one["silence"]["movement"] < 0.1
    assert kept["by_people"]["2"]["all"]["correlation"]["videos"] == 2
    with Image.open(tmp_path / "out" / "people.png") as page:
        assert page.width == 1320 and page.height > 400


def test_swapped_sounds_are_seen(metadata):
    people = people_of(str(metadata))
    [first, second] = people["held_out_00000"]
    swapped = {"held_out_00000": (first._replace(sound=second.sound), second._replace(sound=first.sound))}
    for one in evaluate([metadata.parent / "videos"], people=swapped).records:
        assert one["all"]["correlation"] < 0.5 and one["all"]["correlation_swapped"] > 0.9


def changed(metadata, target, **cells):
    """The metadata with other cells, beside its own files."""
    with metadata.open(encoding="utf-8", newline="") as file:
        [row] = csv.DictReader(file)
    shutil.copytree(metadata.parent, target)
    with (target / "set.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(row))
        writer.writeheader()
        writer.writerow({name: cells.get(name, value) for name, value in row.items()})
    return target / "set.csv"


@pytest.mark.parametrize("cells, words", [
    ({"boxes": "0,0,100,90;0,90,100,900"}, "person 2: box 0,90,100,900 is not within the video, which is 192 wide"),
    ({"boxes": "0,0,100,90"}, "sounds: 2, boxes: 1"),
    ({"sounds": "none;videos/nothing.wav"}, "nothing.wav"),
])  # fmt: skip
def test_what_does_not_fit(metadata, tmp_path, cells, words):
    other = changed(metadata, tmp_path / "set", **cells)
    with pytest.raises(UserError, match=words):
        evaluate([tmp_path / "set" / "videos"], people=people_of(str(other)))


def test_what_a_family_is_told_of_several_people(metadata):
    [row] = read_metadata([str(metadata)], str(metadata.parent))
    several, single = (registry.settings_of(name) for name in ("multitalk", "talkverse"))
    told = speaking._told(several, row, "face.png")
    assert told["image"] == "face.png" and told["prompt"] == row.caption and told["speakers"] == 2
    assert told["audio"] == [f"{metadata.parent}/videos/held_out_00000_{number}.flac" for number in (1, 2)]
    assert told["bbox"] == row.boxes.split(";")
    with pytest.raises(UserError, match="2 people; these weights make one person talk"):
        speaking._told(single, row, "face.png")
