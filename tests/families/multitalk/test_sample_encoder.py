"""A batch of windows, encoded: what a clip of each would be told in sampling."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from talkverse_jax.core.errors import UserError
from talkverse_jax.data.batches import SampleId, WindowShape
from talkverse_jax.data.people import Speaker
from talkverse_jax.data.raw import RawSample
from talkverse_jax.families.multitalk.audio import AudioWindows
from talkverse_jax.families.multitalk.batch import shown
from talkverse_jax.families.multitalk.clips import Cast, MultiTalkClips, MultiTalkState, Noise
from talkverse_jax.families.multitalk.model import MultiTalk
from talkverse_jax.families.multitalk.sample_encoder import MultiTalkEncoder, first_clips
from talkverse_jax.families.multitalk.settings import Settings, TrainingSettings, WindowSettings
from talkverse_jax.families.multitalk.training import TRAINING, to_batch
from talkverse_jax.media.fit import to_unit
from talkverse_jax.media.loudness import gain, loudness
from talkverse_jax.models.clip.model import ClipVision
from talkverse_jax.models.umt5.model import UMT5Encoder
from talkverse_jax.models.vae.model import WanVAE
from talkverse_jax.models.wav2vec2.model import Wav2Vec2
from talkverse_jax.pipeline.encoders import TextEncoder
from talkverse_jax.pipeline.speech import SpeechEncoder
from talkverse_jax.pipeline.training import BatchShape
from talkverse_jax.weights.tiny_tokenizer import tiny_tokenizer
from tests.families.multitalk.tiny import TINY
from tests.sharded import error
from tests.tiny import random_module

FRAMES, SIZE = 12, 32  # to be learnt, pixels
SETTINGS = WindowSettings(motion_frame=5, first_clip_prob=0.5, speakers=2)
FIRST, LATER = 0, 2  # samples of the window below


def window(samples: int = 4) -> RawSample:
    """Random pictures and sound; sample 1 has two people, and the last could not be read."""
    rng = np.random.default_rng(0)
    byte = lambda *shape: rng.integers(0, 256, shape, np.uint8)  # noqa: E731
    sound = lambda: rng.standard_normal(FRAMES * 640).astype(np.float32) / 9  # noqa: E731
    left = np.zeros((SIZE // 8, SIZE // 8), np.uint8)
    left[:, :2] = 1
    silent = Speaker(np.zeros(FRAMES * 640, np.float32), -np.inf, left[:, ::-1])
    batch = RawSample(
        video=byte(samples, 1 + FRAMES, SIZE, SIZE, 3),
        reference=byte(samples, SIZE, SIZE, 3),
        waveform=np.stack([sound() for _ in range(samples)]),
        caption=("a person says 1", "two talk", "", ""),
        face=byte(samples, FRAMES // 4, SIZE // 8, SIZE // 8) % 2,
        body=byte(samples, FRAMES // 4, SIZE // 8, SIZE // 8) % 2,
        id=np.array([SampleId(3, i) for i in range(samples)], np.uint32),
        name=tuple(map(str, range(samples))),
        weight=np.array([1.0] * (samples - 1) + [0.0], np.float32),
        people=((), (Speaker(sound(), -30.0, left), silent), (), ()),
    )
    for array in (batch.video, batch.reference, batch.waveform, batch.face, batch.body):
        array[-1] = 0
    return batch


def encoder_of(settings=SETTINGS, recipe="multitalk", dtype="float32") -> MultiTalkEncoder:
    return MultiTalkEncoder(
        random_module(WanVAE, TINY.vae),
        random_module(ClipVision, TINY.clip),
        SpeechEncoder(random_module(Wav2Vec2, TINY.audio)),
        TextEncoder(random_module(UMT5Encoder, TINY.text), tiny_tokenizer()),
        text_len=TINY.dit.trunk.text_len,
        recipe=recipe,
        settings=settings,
        dtype=dtype,
    )


@pytest.fixture(scope="module", params=["multitalk", "infinitetalk"])
def encoded(request):
    encoder, raw = encoder_of(recipe=request.param), window()
    return encoder, raw, to_batch(encoder.encode(raw), encoder.constants)


def test_batches_are_as_the_plan_expects_them(encoded):
    settings = TrainingSettings(motion_frame=5, speakers=2)
    spec = TRAINING.inputs_spec(TINY, settings, BatchShape(4, FRAMES, SIZE, SIZE, "float32"))
    for name, x in spec._asdict().items():
        ours = getattr(encoded[2], name)
        assert (ours.shape, ours.dtype) == (x.shape, x.dtype), name
        assert np.isfinite(ours).all(), name


@pytest.mark.parametrize("sample", [FIRST, LATER])
def test_the_condition_is_that_of_sampling(encoded, sample):
    """What the loop of clips tells the model of the same frames, and which latents it keeps."""
    encoder, raw, batch = encoded
    video, infinite, first = to_unit(raw.video[sample]), encoder.recipe == "infinitetalk", sample == FIRST
    assert bool(batch.first[sample]) == first
    dit: Any = type("Dit", (), {"config": dataclasses.replace(TINY.dit, recipe=encoder.recipe)})()
    maker = MultiTalkClips(dit, encoder.vae, encoder.clip)
    nothing = np.zeros((1, 1), np.float32)
    subject = Cast(
        picture=lambda clip: video[0],
        text=nothing[None],
        negative_text=nothing[None],
        sound=lambda clip: AudioWindows(jnp.zeros((1, 5, 2, 16)), jnp.zeros((1, 3, 8, 2, 16))),
        speakers=None,
        clips=2,
        noise=lambda clip, shape: Noise(np.zeros(shape, np.float32), np.zeros(2, np.uint32)),
        reference=(lambda clip: to_unit(raw.reference[sample]) if clip else video[0]) if infinite else None,
    )
    settings = Settings(prompt="", frame_num=1 + FRAMES, motion_frame=5)
    begun = maker._begin(MultiTalkState(subject, settings, 0 if first else 1, None if first else video[:5]))
    one = jax.tree.map(lambda x: x[sample : sample + 1], batch._replace(null_text=batch.null_text[None]))
    config = dataclasses.replace(TINY.dit, recipe=encoder.recipe)
    assert error(shown(one, config, 2), begun.known) < 1e-5
    assert error(one.image, begun.image) < 1e-5
    kept = np.asarray(begun.mask).sum().astype(int)
    assert kept == (int(infinite) if first else 2)
    np.testing.assert_allclose(one.latents[:, :kept], begun.held[:, :kept], atol=1e-5)


def test_what_is_heard(encoded):
    """At one loudness: that of the window, or of the whole sound where a file has it."""
    encoder, raw, batch = encoded
    own = raw.waveform[FIRST]
    assert error(batch.audio[FIRST, 0], encoder.audio.encode(own * gain(loudness([own], 16_000)))) < 1e-5
    assert not batch.audio[FIRST, 1].any() and batch.alone[FIRST]
    person = raw.people[1][0].waveform
    assert error(batch.audio[1, 0], encoder.audio.encode(np.float32(person * gain(-30.0)))) < 1e-5
    assert error(batch.audio[1, 1], encoder.audio.encode(np.zeros_like(person))) < 1e-5
    assert not batch.alone[1]


def test_who_is_where(encoded):
    places = encoded[2].places
    first, second, nobody = places[1]
    assert first[:, :2].all() and second[:, 2:].all() and (places.sum(axis=1) == 1).all() and not nobody.any()
    assert places[FIRST, 0].all()


def test_more_people_than_let_in():
    encoder = encoder_of(dataclasses.replace(SETTINGS, speakers=1))
    with pytest.raises(UserError, match="1: 2 people; give --speakers 2"):
        encoder.encode(window())


def test_first_clips_are_as_many_as_asked_and_always_the_same():
    ids = np.array([(epoch, sample) for epoch in range(4) for sample in range(500)], np.uint32)
    found = first_clips(ids, 0.25)
    assert found.mean() == pytest.approx(0.25, abs=0.03)
    np.testing.assert_array_equal(found[7:9], first_clips(ids[7:9], 0.25))
    assert not first_clips(ids, 0.0).any() and first_clips(ids, 1.0).all()


def test_samples_are_stored_whole(encoded):
    encoder, raw, batch = encoded
    recipe = TRAINING.recipe(
        dataclasses.replace(TINY, dit=dataclasses.replace(TINY.dit, recipe=encoder.recipe)),
        encoder.settings,
        dict.fromkeys(TRAINING.samples.encoders, "")
        | dict(size_bucket="multitalk-tiny", num_frames=FRAMES, dtype="float32", roi=False, seed=0, windows=1)
        | dict(shard_size=1, samples=""),
    )
    assert recipe.motion_frame == 5 and recipe.clip_recipe == encoder.recipe
    shape = WindowShape(SIZE, SIZE, "motion")
    arrays = TRAINING.samples.arrays(TINY, recipe, shape)
    for name, known in arrays.items():
        value = getattr(batch, name)[1]
        np.testing.assert_array_equal(known.unpack(known.pack(value, shape)), value)


def test_a_window_must_be_longer_than_what_is_known():
    with pytest.raises(UserError, match="give fewer than --num_frames 8"):
        TRAINING.lengths(TINY, WindowSettings(motion_frame=9), 8, False)
    assert TRAINING.lengths(TINY, WindowSettings(), 80, False).window("motion") == 81


def test_the_loss_takes_what_the_encoder_makes(encoded):
    encoder, _, batch = encoded
    settings = TrainingSettings(motion_frame=5)
    configs = dataclasses.replace(TINY, dit=dataclasses.replace(TINY.dit, recipe=encoder.recipe))
    model = random_module(MultiTalk, configs.dit)
    loss = TRAINING.loss_at(configs, settings, True, jnp.int32(500))
    found, known = jax.jit(lambda model, batch: loss({"dit": model}, batch, jax.random.split(jax.random.key(0), 4)))(
        model, batch
    )
    assert np.isfinite(found).all() and (known["timestep"] == 500).all()
