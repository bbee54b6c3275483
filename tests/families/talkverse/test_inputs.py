"""What a picture or a video to dub becomes, and what is said of it."""

import numpy as np
import pytest
from PIL import Image

from talkverse_jax.core.errors import UserError
from talkverse_jax.families.talkverse.family import FAMILY
from talkverse_jax.families.talkverse.inputs import TalkVerseInputs, read
from talkverse_jax.families.talkverse.settings import Files, Settings
from talkverse_jax.pipeline.job import Job
from talkverse_jax.pipeline.machine import Machine, Weights
from tests.processes import ROOT
from tests.videos import read_number, write_video

REMEDY = ", --fit crop or exact leaves none"


def inputs(path, machine=Machine(), **settings) -> TalkVerseInputs:  # noqa: B008
    files = Files(image=str(path), audio=str(ROOT / "assets/speech.flac"))
    settings = {"prompt": "", "size_bucket": "fasttalk-480"} | settings
    return read(Job.make("talkverse", Weights(weights=""), machine, files, Settings(**settings), "talk.mp4"))


@pytest.fixture
def photo(tmp_path):
    """Grey, 1920x1080: nothing of it is black."""
    path = tmp_path / "photo.png"
    Image.new("RGB", (1920, 1080), (90, 90, 90)).save(path)
    return path


@pytest.mark.parametrize(
    "fit, size, bars, said",
    [
        ("pad", (448, 896), 100 / 896, f"made 896x448; black bars are 11.2% of the frame{REMEDY}"),
        ("crop", (448, 896), 0, "made 896x448 (cropped 11.1% of the height)"),
        ("exact", (480, 832), 0, "made 832x480 (cropped 2.5% of the width)"),
    ],
)
def test_a_picture_of_16_by_9(photo, fit, size, bars, said):
    found = inputs(photo, fit=fit)
    assert found.size == found.picture.shape[:2] == size
    assert (found.picture == 0).all(axis=-1).mean() == pytest.approx(bars)
    assert found.notices == (f"{photo}: 1920x1080, {said}",)


def test_pad_is_what_happens_unless_told_otherwise(photo):
    """As in the original, and as what an older program began goes on."""
    np.testing.assert_array_equal(inputs(photo).picture, inputs(photo, fit="pad").picture)


def test_what_keeps_its_shape_needs_no_word(tmp_path):
    Image.new("RGB", (1280, 1280)).save(tmp_path / "square.png")
    assert all(inputs(tmp_path / "square.png", fit=fit).notices == () for fit in ("pad", "crop", "exact"))


@pytest.mark.parametrize("fit, size, black", [("pad", (832, 448), True), ("crop", (832, 448), False)])
def test_a_video_from_a_phone_is_dubbed_without_bars(tmp_path, fit, size, black):
    """180x320, upright: all of its pictures, and the first one as reference."""
    path = write_video(tmp_path / "phone.mp4", 0.4, 25, size=(320, 180))
    _check_dubbed(inputs(path, fit=fit), size, black)


def test_a_video_from_a_phone_is_dubbed_in_its_own_shape(tmp_path):
    """Turned by its header, as phones write it."""
    path = write_video(tmp_path / "phone.mp4", 0.4, 25, size=(180, 320), rotation=90)
    _check_dubbed(inputs(path, fit="exact"), (832, 480), False)


def _check_dubbed(found: TalkVerseInputs, size: tuple[int, int], black: bool) -> None:
    frames = (found.dubbing(0).frames(3, 4) + 1) * 127.5
    assert found.size == size and frames.shape == (4, *size, 3)
    np.testing.assert_allclose(found.dubbing(0).frames(0, 1)[0], found.picture / 127.5 - 1, atol=1e-6)
    assert (frames[:, :4].max() < 40) == black
    if not black and size == (832, 448):
        assert [read_number(frame, (320, 180)) for frame in frames] == [3, 4, 5, 6]


def test_sizes_of_a_run_are_those_that_its_fit_gives():
    """What `plan` compiles for."""
    sizes = {fit: FAMILY.sizes(Settings(prompt="", size_bucket="fasttalk-480", fit=fit)) for fit in ("pad", "exact")}
    assert len(sizes["pad"]) == 15 and (480, 832) not in sizes["pad"]
    assert len(sizes["exact"]) == 62 and (480, 832) in sizes["exact"] and sizes["exact"][0] == (640, 640)


@pytest.mark.parametrize("name", ["photo.png", "video.mp4"])
def test_files_are_read_as_the_machine_says(photo, name):
    """In a child as in this process, and no more of them than is let in."""
    if name == "video.mp4":
        write_video(photo.with_name(name), 1.0, size=(128, 128))
    path = photo.with_name(name)
    here, there = inputs(path), inputs(path, Machine(decode_in_child=True))
    np.testing.assert_array_equal(there.picture, here.picture)
    assert there.notices == here.notices and there.track.walls.child and not here.track.walls.child
    if here.video:
        np.testing.assert_array_equal(there.video.read(3, 4, (64, 64)), here.video.read(3, 4, (64, 64)))
    with pytest.raises(UserError, match=rf"{name}: more than 0.01 million pixels .*, or raise --max_pixels"):
        inputs(path, Machine(max_pixels=10_000))
    with pytest.raises(UserError, match=r"speech.flac: more than 1 s; give a shorter sound, or raise --max_seconds"):
        inputs(path, Machine(max_seconds=1))
