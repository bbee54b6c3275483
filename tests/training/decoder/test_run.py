"""A tiny decoder is trained on tiny videos: it learns, resumes, is the same on two devices, and converts."""

import json

import jax
import numpy as np
import pytest

from talkverse_jax.cli import train_tiny_decoder as command
from talkverse_jax.core.errors import UserError
from talkverse_jax.families.talkverse.family import FAMILY
from talkverse_jax.toy.make import make
from talkverse_jax.toy.make_options import MakeOptions
from talkverse_jax.training.decoder import run as module
from talkverse_jax.training.decoder.options import FILE, DecoderOptions
from talkverse_jax.training.decoder.run import layout_of, train_decoder
from talkverse_jax.weights import safetensors_io as safetensors
from talkverse_jax.weights import store
from tests.conftest import CONFIGS
from tests.published import converted

pytestmark = pytest.mark.slow
SIZES = CONFIGS / "model_tiny.toml"


@pytest.fixture(scope="module")
def values(tiny_weights, tmp_path_factory):
    """Six updates on three short videos."""
    csv = make(MakeOptions(str(tmp_path_factory.mktemp("world")), videos=3, seconds=1.0, square=True, workers=1))
    return dict(
        weights=str(tiny_weights), dataset_metadata_path=(str(csv),), dataset_base_path=str(csv.parent),
        size_bucket="tiny-128", model=str(SIZES), num_frames=4, crop=32, batch_size=2, steps=6, warmup_steps=2,
        save_steps=2, ema_decay=0.5,
    )  # fmt: skip


@pytest.fixture(scope="module")
def trained(values, tmp_path_factory):
    return train_decoder(DecoderOptions(**values, output_path=str(tmp_path_factory.mktemp("whole"))))


def test_it_resumes(values, trained, tmp_path, monkeypatch):
    """Killed after five updates, it goes on from the fourth, and comes to the same bytes."""
    options, placed = DecoderOptions(**values, output_path=str(tmp_path)), module._Run._placed

    def until_five(run, loaded):
        if loaded.batch.number == 5:
            raise KeyboardInterrupt
        return placed(run, loaded)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(module._Run, "_placed", until_five)
        train_decoder(options)
    assert not (tmp_path / FILE).exists()
    assert train_decoder(options).read_bytes() == trained.read_bytes()
    with pytest.raises(UserError, match="--crop was 32, now 64"):
        train_decoder(DecoderOptions(**values | {"crop": 64}, output_path=str(tmp_path)))


def test_two_devices_come_to_the_same(values, trained, tmp_path, monkeypatch):
    layout = layout_of(jax.devices(), 2, "tpu")
    assert layout.mesh is not None and layout.mesh.size == 2
    monkeypatch.setattr(module, "layout_of", lambda devices, windows: layout)
    shared = train_decoder(DecoderOptions(**values, output_path=str(tmp_path)))
    one, other = (safetensors.read_file(path).tensors for path in (trained, shared))
    for name, value in one.items():
        np.testing.assert_allclose(np.asarray(other[name]), np.asarray(value), atol=2e-3, err_msg=name)


def test_what_is_written_joins_the_weights_and_is_measured(values, tmp_path, capsys):
    held = {"held_out": values["dataset_metadata_path"][0], "held_out_videos": 2}
    flags = [
        f"--{name}={value if isinstance(value, (str, int, float)) else value[0]}"
        for name, value in (values | held).items()
    ]
    command.main([*flags, f"--output_path={tmp_path}"], "train-tiny-decoder")
    found = json.loads((tmp_path / "measures.json").read_text())
    assert list(found) == ["vae, video", "tiny, video", "tiny, vae"]
    assert 3 < found["tiny, video"]["psnr"] < 40 and -1 <= found["tiny, vae"]["ssim_least"] <= 1
    assert "tiny, video" in capsys.readouterr().out
    sizes = FAMILY.configs_from_toml(SIZES)
    folder = converted(tmp_path / "w", sizes, {"tiny_decoder": tmp_path / FILE}, components=("tiny_decoder",))
    assert store.load_config(folder, FAMILY.components["tiny_decoder"]) == sizes.tiny_decoder
