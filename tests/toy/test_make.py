import dataclasses

import numpy as np
import pytest
from PIL import Image

from talkverse_jax.core.errors import UserError
from talkverse_jax.data import masks as roi
from talkverse_jax.data.batches import SampleId
from talkverse_jax.data.catalogue import VideoRules, make_catalogue
from talkverse_jax.data.metadata import read_metadata
from talkverse_jax.data.raw import RawSource
from talkverse_jax.data.windows import Lengths
from talkverse_jax.models.vae.config import VAEConfig
from talkverse_jax.toy import make as toy_make
from talkverse_jax.toy.make import _length, _size, make, make_clip
from talkverse_jax.toy.make_options import MakeOptions
from talkverse_jax.toy.world import main


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("world")
    make(MakeOptions(str(path), videos=2, seed=4, seconds=1.2, workers=1))
    return path


def test_it_is_training_data(folder):
    rows = read_metadata([str(folder / "train.csv")], str(folder))
    assert [row.name for row in rows] == ["train_00000", "train_00001"]
    assert all("hair" in row.caption and row.fps == 25 for row in rows)
    rules = VideoRules("tiny-128", Lengths(16, 9, strides=VAEConfig.wan22().strides), roi=True)
    catalogue = make_catalogue(rows, rules)
    assert not catalogue.rejected and [entry.frames for entry in catalogue.entries] == [30] * 2
    for row in rows:
        faces, bodies = roi.read_boxes(roi.find(row, str(folder), ""))
        assert faces.shape == bodies.shape == (30, 1, 4)
        assert Image.open(row.video.replace(".mp4", ".png")).size in {(128, 128), (160, 128), (128, 160)}
    source = RawSource(catalogue.entries, 0, Lengths(16, 9, strides=VAEConfig.wan22().strides), roi=True)
    entry = catalogue.entries[1]
    sample = source.load(SampleId(0, 1), entry.shape)
    assert sample.video.shape == (25, entry.shape.height, entry.shape.width, 3)
    assert sample.face.any() and sample.body.sum() > sample.face.sum()
    start = source.window(SampleId(0, 1)).start
    drawn = make_clip(4, "train", 1, 1.2).film.frames[start : start + 25]
    assert np.abs(sample.video.astype(int) - drawn).mean() < 3


def test_a_seed_is_a_world(folder, tmp_path):
    make(MakeOptions(str(tmp_path / "two"), videos=2, seed=4, seconds=1.2, workers=2))
    for name in ("train_00000.mp4", "train_00001.mp4", "train_00001.npz", "train_00001.png"):
        assert (tmp_path / "two" / "videos" / name).read_bytes() == (folder / "videos" / name).read_bytes(), name


def test_sets_and_seeds_share_nobody():
    made = [make_clip(seed, set, 0, 0.6, (128, 128)) for seed in (0, 1) for set in ("train", "held_out")]
    for place, one in enumerate(made):
        for other in made[:place]:
            assert one.person != other.person
            assert not np.array_equal(one.speech.sound, other.speech.sound)


def test_lengths_and_shapes():
    """A window with motion needs 193 frames; most videos have them, and the others have 120."""
    frames = np.array([round(25 * _length(np.random.default_rng(n), 0.2)) for n in range(500)])
    assert frames.min() >= 125 and frames.max() <= 300
    assert not ((frames > 175) & (frames < 225)).any()
    assert 0.7 < (frames >= 225).mean() < 0.9
    sizes = [_size(np.random.default_rng(n)) for n in range(500)]
    assert set(sizes) == {(128, 128), (128, 160), (160, 128)}
    assert 0.6 < sizes.count((128, 128)) / 500 < 0.8


def test_bad_options(tmp_path):
    cases = (["--videos", "0"], "--videos 0"), (["--seconds", "-1"], "--seconds"), (["--seed", "-1"], "--seed")
    for flags, word in cases:
        with pytest.raises(UserError, match=word):
            main(["--output", str(tmp_path), *flags], "toy-world")


def test_an_interrupted_run_goes_on(folder, tmp_path, monkeypatch):
    options = MakeOptions(str(tmp_path), videos=2, seed=4, seconds=1.2, workers=1)
    write = toy_make.write_clip

    def stops(clip, path):
        if "00001" in path.name:
            raise KeyboardInterrupt
        write(clip, path)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(toy_make, "write_clip", stops)
        make(options)
    first = tmp_path / "videos/train_00000.mp4"
    before = first.stat().st_mtime_ns
    make(options)
    assert first.stat().st_mtime_ns == before
    assert (tmp_path / "train.csv").read_text() == (folder / "train.csv").read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["train.csv", "videos"]
    make(dataclasses.replace(options, seed=5))  # another world does not keep it
    assert first.read_bytes() != (folder / "videos/train_00000.mp4").read_bytes()
