"""A batch of windows, encoded: what a training step is given."""

import copy
from collections import OrderedDict

import jax
import numpy as np
import pytest

from talkverse_jax.data.batches import SampleId
from talkverse_jax.data.raw import RawSample
from talkverse_jax.families.talkverse.clips import encode
from talkverse_jax.families.talkverse.family import FAMILY
from talkverse_jax.families.talkverse.sample_encoder import WindowEncoder
from talkverse_jax.families.talkverse.settings import WindowSettings
from talkverse_jax.families.talkverse.training import TrainingBatch, inputs_spec, to_batch
from talkverse_jax.media.fit import to_unit
from talkverse_jax.pipeline.training import BatchShape
from talkverse_jax.sharding.mesh import make_mesh
from talkverse_jax.sharding.mesh_config import MeshConfig

FRAMES, MOTION, SIZE = 8, 73, 32  # to be learnt, before them, pixels
LEARNT = FRAMES // 4


def window(frames: int, *, samples: int = 2, seed: int = 0) -> RawSample:
    """Random pictures and sound; the last sample could not be read."""
    rng = np.random.default_rng(seed)
    byte = lambda *shape: rng.integers(0, 256, shape, np.uint8)  # noqa: E731
    bit = lambda: rng.integers(0, 2, (samples + 1, LEARNT, 2, 2), np.uint8)  # noqa: E731
    batch = RawSample(
        video=byte(samples + 1, frames, SIZE, SIZE, 3),
        reference=byte(samples + 1, SIZE, SIZE, 3),
        waveform=rng.standard_normal((samples + 1, (frames - 1) * 640)).astype(np.float32) + 0.3,
        caption=tuple(f"a person says {i}" for i in range(samples)) + ("",),
        face=bit(),
        body=bit(),
        id=np.array([SampleId(3, i) for i in range(samples + 1)], np.uint32),
        name=tuple(map(str, range(samples + 1))),
        weight=np.array([1.0] * samples + [0.0], np.float32),
        people=((),) * (samples + 1),
    )
    for array in (batch.video, batch.reference, batch.waveform, batch.face, batch.body):
        array[-1] = 0
    return batch


def batch_of(encoder: WindowEncoder, raw: RawSample) -> TrainingBatch:
    return to_batch(encoder.encode(raw), encoder.constants)


@pytest.fixture(scope="module")
def encoder(tiny_weights) -> WindowEncoder:
    return WindowEncoder.load(tiny_weights, WindowSettings(), dtype="float32")


@pytest.fixture(scope="module")
def with_motion(encoder):
    raw = window(MOTION + FRAMES)
    return raw, batch_of(encoder, raw)


@pytest.fixture(scope="module")
def alone(encoder):
    raw = window(FRAMES)
    return raw, batch_of(encoder, raw)


def close(ours, reference) -> bool:
    return float(np.abs(np.asarray(ours) - reference).max()) < 1e-5 * float(np.abs(reference).max())


def test_shapes(with_motion, alone, tiny_weights):
    configs = FAMILY.configs_from_weights(tiny_weights)
    trunk, h = configs.dit.trunk, SIZE // 16
    for _, batch in (with_motion, alone):
        assert batch.target.shape == (3, LEARNT, h, h, 48)
        assert batch.motion.shape == (3, 19, h, h, 48)
        assert batch.reference.shape == (3, 1, h, h, 48)
        assert batch.audio.shape == (3, FRAMES, configs.dit.audio_layers, configs.dit.audio_dim)
        assert batch.text.shape == (3, trunk.text_len, trunk.text_dim)
        assert batch.null_text.shape == (trunk.text_len, trunk.text_dim)
        assert batch.face.shape == batch.body.shape == (3, LEARNT, h, h)
        np.testing.assert_array_equal(batch.ids, [[3, 0], [3, 1], [3, 2]])
        np.testing.assert_array_equal(batch.weight, [1, 1, 0])


def test_batches_are_as_the_plan_expects_them(with_motion, alone, tiny_weights):
    spec = inputs_spec(FAMILY.configs_from_weights(tiny_weights), None, BatchShape(3, FRAMES, SIZE, SIZE, "float32"))
    for _, batch in (with_motion, alone):
        for name, x in spec._asdict().items():
            ours = getattr(batch, name)
            assert (ours.shape, ours.dtype) == (x.shape, x.dtype), name


def test_the_window_is_encoded_at_once_and_then_divided(encoder, with_motion):
    raw, batch = with_motion
    whole = np.asarray(encode(encoder.vae, to_unit(raw.video[1:2])))[0]
    assert whole.shape[0] == 19 + LEARNT
    assert close(batch.motion[1], whole[:19])
    assert close(batch.target[1], whole[19:])
    assert close(batch.reference[1], np.asarray(encode(encoder.vae, to_unit(raw.reference[1:2, None])))[0])


def test_without_motion_all_is_to_be_learnt(encoder, alone):
    raw, batch = alone
    assert close(batch.target[0], np.asarray(encode(encoder.vae, to_unit(raw.video[:1])))[0])
    assert not batch.motion.any()


def test_sound_behind_motion_is_that_of_the_frames(encoder, with_motion):
    raw, batch = with_motion
    rows = encoder.audio.encode(raw.waveform[1])
    assert len(rows) == MOTION + FRAMES - 1  # the last frame's row is zero
    assert close(batch.audio[1, :-1], rows[MOTION:])
    assert not batch.audio[1, -1].any()


@pytest.mark.parametrize(
    "alignment, order", [("exact", [0, 0, 0, 0, 1, 2, 3, 4]), ("upstream", [0, 1, 2, 3, 4, 5, 6, None])]
)
def test_sound_without_motion(encoder, alone, alignment, order):
    raw, batch = alone
    if alignment != encoder.alignment:
        other = copy.copy(encoder)
        other.alignment = alignment
        batch = batch_of(other, raw)
    rows = encoder.audio.encode(raw.waveform[0])
    for row, source in zip(batch.audio[0], order, strict=True):
        assert not row.any() if source is None else close(row, rows[source])


def test_text_is_encoded_once_a_caption(encoder, alone, monkeypatch):
    raw, batch = alone
    captions = ["a person says 1", "", "a person says 1"]
    text, told = encoder.captions.text, []

    def encode(_, prompts, text_len):
        told.extend(prompts)
        return text.encode(prompts, text_len)

    monkeypatch.setattr(encoder.captions, "text", type("Counting", (), {"model": text.model, "encode": encode})())
    again = batch_of(encoder, raw._replace(caption=("new", "", "new")))
    assert told == ["new"]
    np.testing.assert_array_equal(again.text[0], again.text[2])
    np.testing.assert_array_equal(again.text[1], batch.null_text)
    encoded = text.encode(captions, len(batch.null_text))
    assert close(batch.text[1], np.asarray(encoded.states)[0])
    assert close(batch.null_text, np.asarray(encoded.states)[1])
    assert not batch.null_text[encoded.lengths[1] :].any() and batch.null_text[0].any()


def test_few_captions_are_remembered(encoder, alone, monkeypatch):
    raw, batch = alone
    monkeypatch.setattr("talkverse_jax.pipeline.sample_encoding._CAPTIONS", 2)
    monkeypatch.setattr(encoder.captions, "_known", OrderedDict())
    for number in range(4):
        batch_of(encoder, raw._replace(caption=(f"caption {number}", "", "")))
        assert len(encoder.captions._known) == 2
    again = batch_of(encoder, raw)
    np.testing.assert_array_equal(again.text, batch.text)


def test_an_empty_slot_is_finite(with_motion, alone):
    for _, batch in (with_motion, alone):
        for array in batch:
            assert np.isfinite(np.asarray(array[-1], np.float32)).all()


def test_bfloat16_is_the_default(tiny_weights, encoder, alone):
    raw, batch = alone
    stored = batch_of(WindowEncoder.load(tiny_weights, WindowSettings()), raw)
    for name in ("target", "motion", "reference", "audio", "text", "null_text"):
        ours, exact = getattr(stored, name), getattr(batch, name)
        assert ours.dtype == "bfloat16" and ours.nbytes * 2 == exact.nbytes
        assert np.abs(ours.astype(np.float32) - exact).max() <= 0.06 * np.abs(exact).max()


def test_text_on_the_cpu_is_the_same(tiny_weights, alone):
    raw, batch = alone
    there = batch_of(WindowEncoder.load(tiny_weights, WindowSettings(), dtype="float32", text_on_cpu=True), raw)
    np.testing.assert_array_equal(there.text, batch.text)


@pytest.mark.slow
def test_several_devices_share_the_work(tiny_weights, alone, monkeypatch):
    raw, batch = alone
    mesh = make_mesh(MeshConfig(data=-1), jax.devices()[:4], heads=1)
    monkeypatch.setattr("talkverse_jax.families.talkverse.sample_encoder.local_mesh", lambda: mesh)
    encoder = WindowEncoder.load(tiny_weights, WindowSettings(), dtype="float32")
    assert encoder.vae.layout.mesh.size == encoder.captions.text.model.layout.mesh.size == 4
    together = batch_of(encoder, raw)
    for name in ("target", "reference", "audio", "text"):
        assert np.abs(getattr(together, name) - getattr(batch, name)).max() < 1e-4
