"""A sound and a place for each person of a video: what becomes of the columns, and what is wrong with them."""

import numpy as np
import pytest
import soundfile

from talkverse_jax.data.batches import SampleId
from talkverse_jax.data.catalogue import VideoRules, make_catalogue
from talkverse_jax.data.metadata import read_metadata
from talkverse_jax.data.raw import RawSource
from talkverse_jax.data.windows import Lengths
from talkverse_jax.media.bad_sample import BadSample
from talkverse_jax.models.vae.config import VAEConfig
from tests.videos import read_number, write_csv, write_video

SIZE = (64, 128)  # of the video; its middle, 80 wide, becomes the sample, twice as large
LENGTHS = Lengths(12, 1, True, strides=VAEConfig.wan21().strides)
RULES = VideoRules("tiny-128", LENGTHS)
BOXES = "8,20,64,60;8,68,64,108"


def said(sample):
    """A tone that swells, by which its time is known; silence behind 1.5 s."""
    return np.where(sample < 24_000, sample / 48_000 * np.sin(sample / 3), 0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("people")
    write_video(folder / "talk.mp4", 2.0, size=SIZE)
    for name, sign in (("a", 1), ("b", -1)):
        soundfile.write(folder / f"{name}.wav", sign * said(np.arange(24_000)), 16_000)
    return folder


def catalogue(folder, sounds, boxes, cache=None):
    row = {"video_path": "talk.mp4", "caption": "two talk", "sounds": sounds, "boxes": boxes}
    path = write_csv(folder / "metadata.csv", [row])
    return make_catalogue(read_metadata([str(path)], str(folder)), RULES, cache)


def load(found, epoch=0):
    source = RawSource.of(found, RULES, seed=0)
    return source.load(SampleId(epoch, 0), found.entries[0].shape)


def test_each_has_the_sound_of_the_window_and_a_place(folder):
    sample = load(catalogue(folder, "a.wav; b.wav", BOXES))
    first, second = sample.people
    begin = read_number(sample.video[0], SIZE) * 640  # the picture's number tells the time
    assert len(first.waveform) == len(sample.waveform) == 12 * 640
    np.testing.assert_allclose(first.waveform, said(np.arange(begin, begin + 12 * 640)), atol=1e-4)
    np.testing.assert_allclose(second.waveform, -first.waveform, atol=1e-4)
    assert first.lufs == pytest.approx(second.lufs, abs=0.01) and -30 < first.lufs < -5
    rows, columns = np.mgrid[0:64:4, 24:104:4]
    for person, (left, right) in ((first, (20, 60)), (second, (68, 108))):
        inside = (rows >= 8) & (columns >= left) & (columns < right)
        np.testing.assert_array_equal(person.place, inside)


def test_somebody_says_nothing(folder):
    sample = load(catalogue(folder, "none;b.wav", BOXES))
    assert not sample.people[0].waveform.any() and sample.people[0].lufs == -np.inf
    assert sample.people[1].waveform.any()


def test_one_sound_takes_the_place_of_the_video_s(folder):
    sample = load(catalogue(folder, "b.wav", ""))
    assert sample.people[0].place.all()
    assert abs(sample.people[0].waveform - sample.waveform).max() > 0.1
    assert load(catalogue(folder, "", "")).people == ()


@pytest.mark.parametrize(
    "sounds, boxes, reason",
    [
        ("a.wav;b.wav", "", "people unclear"),
        ("a.wav;b.wav", "0,0,8,8", "people unclear"),
        ("", "0,0,8,8", "people unclear"),
        ("a.wav", "8,0,8,8", "people unclear"),
        ("a.wav", "somewhere", "people unclear"),
        ("a.wav;c.wav", BOXES, "no sound file"),
    ],
)
def test_a_row_that_does_not_fit_is_left_out(folder, sounds, boxes, reason):
    found = catalogue(folder, sounds, boxes)
    assert not found.entries and found.rejected[0].reason == reason


def test_a_place_that_is_cut_off(folder):
    with pytest.raises(BadSample, match="person not in the picture"):
        load(catalogue(folder, "a.wav;b.wav", "8,0,64,24;8,68,64,108"))


def test_other_people_are_another_sample_and_the_cache_knows(folder, tmp_path):
    cache = tmp_path / "catalogue.jsonl"
    found = [catalogue(folder, *row, cache).entries[0] for row in (("", ""), ("a.wav;b.wav", BOXES))]
    again = catalogue(folder, "a.wav;b.wav", BOXES, cache).entries[0]
    assert again == found[1]
    swapped = catalogue(folder, "b.wav;a.wav", BOXES).entries[0]
    assert len({entry.identity for entry in (*found, swapped)}) == 3
