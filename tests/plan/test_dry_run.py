"""What would be done is told, and nothing of it is done."""

import json

import pytest
from PIL import Image

from talkverse_jax.core.errors import UserError
from talkverse_jax.core.reporting import Reporter
from talkverse_jax.data.raw import RawSource
from talkverse_jax.families.talkverse import settings
from talkverse_jax.plan import dry_run
from talkverse_jax.plan.dry_run import dry_prepare, dry_train
from talkverse_jax.training.options import TrainOptions
from talkverse_jax.training.prepare_options import PrepareOptions
from tests.videos import write_dataset


class Told(Reporter):
    def __init__(self):
        self.said = []

    def say(self, text):
        self.said.append(text)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Three videos with motion frames in two sizes, one without, one that is too short, and one that is not there."""
    folder = tmp_path_factory.mktemp("data")
    metadata = write_dataset(folder, 5, [4.0, 4.8, 2.0, 4.0, 0.2], [(128, 128), (160, 96)])
    metadata.write_text(metadata.read_text() + "videos/none.mp4,c,25,\n")
    return folder


def values(weights, data, **more):
    where = dict(dataset_metadata_path=(str(data / "metadata.csv"),), dataset_base_path=str(data))
    return dict(weights=str(weights), size_bucket="tiny-128", num_frames=8, num_workers=0, **where) | more


def test_a_preparation(tiny_weights, data, tmp_path):
    asked = values(tiny_weights, data, output=str(tmp_path), enable_roi_loss=True, windows=3, shard_size=4)
    told = Told()
    dry_prepare(PrepareOptions.build(settings, asked, "here"), told)
    text = "\n".join(told.said)
    assert "left out, too short: videos/clip4.mp4 (5 frames at 25 fps in its longest scene; 8 are needed)" in text
    assert "left out, no such file: videos/none.mp4" in text
    assert "128x128 motion: 1 samples, scenes of 4.0 to 4.0 s" in text
    assert "128x160 motion: 2 samples, scenes of 4.0 to 4.8 s, the middle one 4.8 s" in text
    assert "12 samples in 4 shards, " in text and " GB at most" in text
    page = Image.open(tmp_path / "dry_run.png")
    assert page.size[0] == 1320 and len(page.getcolors(10**6)) > 100
    assert {path.name for path in tmp_path.iterdir()} == {"catalogue.new.jsonl", "skipped.jsonl", "dry_run.png"}


@pytest.fixture
def no_plan(monkeypatch):
    monkeypatch.setattr(dry_run, "_machine", lambda: None)


def test_a_training(tiny_weights, data, tmp_path, no_plan, monkeypatch):
    drawn = []
    monkeypatch.setattr(dry_run, "window_sheet", lambda samples, source, *_: drawn.append((samples, source)))
    asked = values(tiny_weights, data, output_path=str(tmp_path), batch_size=2, num_epochs=6, warmup_steps=20)
    told = Told()
    options = TrainOptions.build(settings, asked | {"dataset_repeat": (2,)}, "here")
    dry_train(options, told)
    text = "\n".join(told.said)
    assert "24 steps of 2 samples (--num_epochs 6); an epoch has 8 samples" in text
    assert "would stop" not in text and "memory and time: not known of" in text  # two of six rows are too few to tell
    [(samples, source)] = drawn
    assert isinstance(source, RawSource) and len({sample.id.sample for sample in samples}) == len(samples) == 8
    assert len({sample.video.shape for sample in samples}) == 3
    assert not (tmp_path / "checkpoints").exists() and not (tmp_path / "catalogue.jsonl").exists()
    shown = json.loads((tmp_path / "skipped.jsonl").read_text().splitlines()[0])
    assert shown["reason"] in ("too short", "no such file")


def test_no_weights_is_one_line(data, tmp_path):
    asked = values(tmp_path / "none", data, output_path=str(tmp_path))
    with pytest.raises(UserError, match="none: no such folder"):
        dry_train(TrainOptions.build(settings, asked, "here"), Told())
