import os
import pickle
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image, ImageDraw

from talkverse_jax.data.batches import SampleId, WindowShape
from talkverse_jax.data.catalogue import VideoRules, make_catalogue
from talkverse_jax.data.metadata import read_metadata
from talkverse_jax.data.raw import RawSource
from talkverse_jax.data.windows import Lengths
from talkverse_jax.media.bad_sample import BadSample
from talkverse_jax.models.vae.config import VAEConfig
from tests.videos import chirp, face_box, read_number, silence, write_dataset

LENGTHS = Lengths(num_frames=16, motion_frames=9, strides=VAEConfig.wan22().strides)


def source(folder, lengths=LENGTHS, seed=0, detector="", **dataset):
    """A dataset of one video, its source, and the shape of its samples."""
    metadata = write_dataset(folder, 1, **dataset)
    rules = VideoRules("tiny-128", lengths, roi=True, detector=detector)
    [entry] = make_catalogue(read_metadata([str(metadata)], str(folder)), rules).entries
    return RawSource([entry], seed, lengths, roi=True, detector=detector), entry.shape


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Three seconds of 160 x 96, shown as 128 x 160."""
    return source(tmp_path_factory.mktemp("data"), seconds=3.0, size=(96, 160))


@pytest.mark.parametrize("epoch", range(4))
def test_a_sample_shows_its_window(made, epoch):
    raw, shape = made
    id = SampleId(epoch, 0)
    sample, window = raw.load(id, shape), raw.window(id)
    assert sample.video.shape == (25, 128, 160, 3)
    numbers = [read_number(picture, (96, 160)) for picture in sample.video]
    assert numbers == list(range(window.start, window.start + 25))
    assert read_number(sample.reference, (96, 160)) == window.reference
    times = window.start / 25 + np.arange(24 * 640) / 16000
    np.testing.assert_allclose(sample.waveform[2500:], chirp(times)[2500:], atol=5e-3)
    assert (sample.id, sample.name, sample.caption, sample.weight) == (id, "clip0", "person 0 speaks", 1.0)


def test_the_published_lengths(tmp_path):
    raw, shape = source(tmp_path, Lengths(120, 73, strides=VAEConfig.wan22().strides), seconds=8.0)
    sample = raw.load(SampleId(0, 0), shape)
    assert shape.kind == "motion"
    assert sample.video.shape == (193, 128, 128, 3)
    assert sample.waveform.shape == (192 * 640,)
    assert sample.face.shape == sample.body.shape == (30, 8, 8)


def test_masks_are_of_the_frames_to_be_learnt(made):
    raw, shape = made
    sample, window = raw.load(SampleId(0, 0), shape), raw.window(SampleId(0, 0))
    assert sample.face.shape == (4, 8, 10)
    scale, left = 128 / 96, (213 - 160) / 2
    for latent, mask in enumerate(sample.face):
        box = np.array(face_box(window.start + 9 + 4 * latent, (96, 160))) * scale - [left, 0, left, 0]
        whole = Image.new("L", (160, 128))
        ImageDraw.Draw(whole).rectangle([tuple(box[:2]), tuple(box[2:])], fill=1)
        np.testing.assert_array_equal(mask, np.asarray(whole)[::16, ::16])
    assert (sample.body >= sample.face).all()
    assert sample.body.sum() > sample.face.sum() > 0


def test_masks_of_pixels_that_are_not_square(tmp_path):
    """Keypoints count the file's own pixels, 64 x 128 of 2:1, which are shown as 128 x 128."""
    raw, shape = source(tmp_path, seconds=2.0, size=(128, 64), aspect=Fraction(2, 1))
    assert (shape.height, shape.width) == (128, 128)
    sample, window = raw.load(SampleId(0, 0), shape), raw.window(SampleId(0, 0))
    box = np.array(face_box(window.start + 9, (128, 64))) * [2, 1, 2, 1]
    whole = Image.new("L", (128, 128))
    ImageDraw.Draw(whole).rectangle([tuple(box[:2]), tuple(box[2:])], fill=1)
    np.testing.assert_array_equal(sample.face[0], np.asarray(whole)[::16, ::16])
    squares = np.abs(sample.video[0].astype(int) - (90, 110, 150)).sum(-1) > 60
    assert np.ptp(np.flatnonzero(squares.any(0))) == pytest.approx(2 * 0.75 * 64, abs=6)  # and twice as wide


def test_a_sample_is_a_function_of_the_seed_and_its_id(made):
    raw, shape = made
    sent = pickle.loads(pickle.dumps(raw))
    for epoch in range(3):
        one, two = (made.load(SampleId(epoch, 0), shape) for made in (raw, sent))
        assert all(np.array_equal(a, b) for a, b in zip(one, two))
    windows = {raw.window(SampleId(epoch, 0)) for epoch in range(20)}
    assert len(windows) > 10
    assert windows != {RawSource(raw.entries, 1, LENGTHS).window(SampleId(epoch, 0)) for epoch in range(20)}


def test_a_window_without_motion_frames(tmp_path):
    raw, shape = source(tmp_path, seconds=0.8)
    assert shape == WindowShape(128, 128, "short")
    sample, window = raw.load(SampleId(0, 0), shape), raw.window(SampleId(0, 0))
    assert [read_number(picture) for picture in sample.video] == list(range(window.start, window.start + 16))
    assert len(sample.waveform) == 15 * 640
    assert sample.face[0].sum() > 0


def test_without_roi_masks_are_zeros(made):
    raw, shape = made
    sample = RawSource(raw.entries, 0, LENGTHS).load(SampleId(0, 0), shape)
    assert sample.face.shape == sample.body.shape == (4, 8, 10)
    assert sample.face.sum() == sample.body.sum() == 0


def test_a_detector_finds_faces_where_there_is_no_file(tmp_path, monkeypatch):
    (tmp_path / "a_detector.py").write_text(
        "import numpy as np\n"
        "def find(frames):\n"
        "    assert frames.shape == (4, 128, 128, 3) and frames.dtype == np.uint8\n"
        "    boxes = np.tile([32.0, 16.0, 64.0, 200.0], (4, 1))\n"
        "    boxes[2] = np.nan\n"
        "    return boxes\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    raw, shape = source(tmp_path / "data", seconds=2.0, masks=False, detector="a_detector:find")
    sample = raw.load(SampleId(0, 0), shape)
    assert sample.face[0].nonzero()[0].tolist() == [row for row in range(1, 8) for _ in range(3)]
    assert set(sample.face[0].nonzero()[1]) == {2, 3, 4}
    assert sample.face[2].sum() == sample.body.sum() == 0


def test_a_blank_sample_stacks_with_others(made):
    raw, shape = made
    sample, blank = raw.load(SampleId(2, 0), shape), raw.blank(SampleId(3, 0), shape)
    batch = raw.stack([sample, blank])
    assert batch.video.shape == (2, *sample.video.shape)
    for one, two in zip(sample, blank):
        if isinstance(one, np.ndarray):
            assert (one.shape, one.dtype) == (two.shape, two.dtype)
            assert not two.any()
    np.testing.assert_array_equal(batch.weight, np.float32([1, 0]))
    np.testing.assert_array_equal(batch.id, np.uint32([[2, 0], [3, 0]]))
    assert batch.id.dtype == np.uint32
    assert batch.caption == ("person 0 speaks", "")


def removed(folder):
    os.remove(folder / "videos" / "clip0.mp4")


def truncated(folder):
    path = folder / "videos" / "clip0.mp4"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 4])


def without_masks(folder):
    os.remove(folder / "videos" / "clip0.npz")


def damaged_masks(folder):
    (folder / "videos" / "clip0.npz").write_text("no keypoints")


@pytest.mark.parametrize(
    ("break_it", "reason"),
    [
        (removed, "no such file"),
        (truncated, "cut short"),
        (without_masks, "no mask file"),
        (damaged_masks, "mask file damaged"),
    ],
)
def test_what_breaks_after_the_catalogue_was_made(tmp_path, break_it, reason):
    raw, shape = source(tmp_path, seconds=2.0, options={"movflags": "faststart"})
    break_it(tmp_path)
    with pytest.raises(BadSample) as caught:
        raw.load(SampleId(0, 0), shape)
    assert caught.value.reason == reason


def test_silence(tmp_path):
    raw, shape = source(tmp_path, seconds=2.0, sound=silence)
    with pytest.raises(BadSample, match="silent window"):
        raw.load(SampleId(0, 0), shape)
