import json
from pathlib import Path

import numpy as np
import pytest

from talkverse_jax.core.errors import UserError
from talkverse_jax.data import masks as roi
from talkverse_jax.data.metadata import read_metadata
from talkverse_jax.data.people import read_people
from talkverse_jax.media.audio import read_audio
from talkverse_jax.media.image import read_image
from talkverse_jax.toy.make import draw_group, make
from talkverse_jax.toy.make_options import MakeOptions
from talkverse_jax.toy.speech import RATE


@pytest.fixture(scope="module")
def options(tmp_path_factory):
    return MakeOptions(str(tmp_path_factory.mktemp("world")), videos=2, seed=2, seconds=1.6, people=(2, 3), workers=1)


@pytest.fixture(scope="module")
def rows(options):
    return read_metadata([str(make(options))], options.output)


def test_it_is_training_data_of_several_people(options, rows):
    for number, row in enumerate(rows):
        group = draw_group(options, number)
        assert row.caption == group.caption
        people = read_people(row.sounds, row.boxes, row.base)
        assert [person.box for person in people] == [member.box for member in group.members]
        assert [bool(person.sound) for person in people] == [bool(member.turns) for member in group.members]
        assert read_image(row.video.replace(".mp4", ".png")).shape[:2] == group.size
        sounds = [read_audio(person.sound, RATE).samples for person in people if person.sound]
        mix = read_audio(row.video, RATE).samples[: len(sounds[0])]
        together = np.sum(sounds, axis=0)[: len(mix)]
        assert np.corrcoef(mix, together)[0, 1] > 0.9  # AAC
        faces, bodies = roi.read_boxes(roi.find(row, row.base, ""))
        assert faces.shape == bodies.shape == (40, len(people), 4)
        assert (faces[:, 1:, 0] > faces[:, :-1, 2]).all()


def test_what_sampling_is_told(rows):
    for row in rows:
        told = json.loads(Path(row.video).with_suffix(".json").read_text(encoding="utf-8"))
        assert told["prompt"] == row.caption and told["image"] == f"{row.name}.png"
        assert [",".join(map(str, person["bbox"])) for person in told["people"]] == row.boxes.split(";")
        assert told.get("speakers", 2) == max(2, len(told["people"]))


def test_a_video_depends_on_its_number_alone(options, rows, tmp_path):
    """Not on how many there are."""
    alone = MakeOptions(str(tmp_path), videos=1, seed=2, seconds=1.6, people=(2, 3), workers=1)
    make(alone)
    for file in (tmp_path / "videos").iterdir():
        assert file.read_bytes() == (Path(options.output) / "videos" / file.name).read_bytes(), file.name


@pytest.mark.parametrize("people, word", [((), "people"), ((0,), "people"), ((2, 5), "1 to 4")])
def test_bad_numbers_of_people(people, word):
    with pytest.raises(UserError, match=word):
        MakeOptions("x", people=people)
    with pytest.raises(UserError, match="square"):
        MakeOptions("x", people=(2,), square=True)
