import dataclasses
import weakref
from functools import partial

import jax.numpy as jnp
import numpy as np
import pytest

from talkverse_jax.core.errors import UserError
from talkverse_jax.families.talkverse import clips as clip_maker
from talkverse_jax.families.talkverse.alignment import clip_audio
from talkverse_jax.families.talkverse.clips import ClipMaker, Subject, check_frames, seeded_key, seeded_noise
from talkverse_jax.families.talkverse.components import COMPONENTS
from talkverse_jax.families.talkverse.settings import Settings
from talkverse_jax.models.tiny_decoder.config import TinyDecoderConfig
from talkverse_jax.models.tiny_decoder.model import TinyDecoder
from talkverse_jax.models.vae.config import VAEConfig
from talkverse_jax.pipeline.decoders import check_decoder
from talkverse_jax.pipeline.events import Cancelled, Events
from talkverse_jax.weights import store
from tests.tiny import random_module

SETTINGS = dict(
    prompt="",
    infer_frames=8,
    sample_steps=2,
    sample_shift=5.0,
    sample_guide_scale=4.5,
    sample_solver="unipc",
    init_first_frame=False,
    audio_alignment="exact",
)


@pytest.fixture(scope="module")
def models(tiny_weights):
    return [store.load_module(tiny_weights, COMPONENTS[name], dtype="float32") for name in ("dit", "vae")]


class Steps(Events):
    """Calls a function after each step, and stops after so many."""

    def __init__(self, on_step=lambda: None, stop_after=None):
        self.on_step, self.left = on_step, stop_after

    def step(self, index, count):
        self.on_step()

    def cancelled(self):
        self.left = self.left and self.left - 1
        return self.left == 0


def subject_of(models, num_clips=2, image=None, dubbing=None):
    dit, _ = models
    rng, trunk = np.random.default_rng(0), dit.config.trunk
    drawn = rng.uniform(-1, 1, (128, 128, 3)).astype(np.float32)
    image = drawn if image is None else image
    text = jnp.asarray(rng.standard_normal((1, trunk.text_len, trunk.text_dim)), jnp.float32)
    features = rng.standard_normal((30, dit.config.audio_layers, dit.config.audio_dim)).astype(np.float32)
    audio = partial(clip_audio, features)
    return Subject(image, text, jnp.zeros_like(text), audio, num_clips, seeded_noise(5), dubbing, seeded_key(5))


def clips_of(models, on_step=lambda: None, num_clips=2, image=None, dubbing=None, **changes):
    subject = subject_of(models, num_clips, image, dubbing)
    return ClipMaker(*models).clips(subject, Settings(**SETTINGS | changes), Steps(on_step))


@pytest.mark.slow
def test_a_finished_clip_is_not_kept_while_the_next_is_made(models):
    kept, alive = [], []
    steps = clips_of(models, on_step=lambda: alive.append([ref() is not None for ref in kept]), num_clips=3)
    for clip in steps:
        kept.append(weakref.ref(clip))
        assert clip.frames.shape == ((5, 8, 8)[clip.index], 128, 128, 3)
        assert np.abs(clip.frames).max() <= 1
        del clip
    assert alive == [[], [], [False], [False], [False, False], [False, False]]


def test_more_clips_do_not_change_the_ones_before(models):
    one, two = ([clip.frames for clip in clips_of(models, num_clips=n)] for n in (1, 2))
    np.testing.assert_array_equal(one[0], two[0])


def test_the_first_clip_hears_what_it_shows(models):
    """Row 0 three times early in `exact`; the same rows as the original's in `upstream`."""
    exact, upstream = (next(clips_of(models, num_clips=1, audio_alignment=how)).frames for how in ("exact", "upstream"))
    assert np.abs(exact - upstream).max() > 1e-4


def test_starting_from_the_picture_encodes_it_into_the_history(models, monkeypatch):
    seen = []
    encode = clip_maker.encode

    def spy(vae, video):
        seen.append(np.asarray(video))
        return encode(vae, video)

    monkeypatch.setattr(clip_maker, "encode", spy)
    clip = next(clips_of(models, num_clips=1, init_first_frame=True))
    picture, history = seen
    assert len(clip.frames) == 8 and history.shape[1] == 73
    assert not history[:, :-6].any()
    np.testing.assert_array_equal(history[:, -6:], np.repeat(picture, 6, axis=1))


def test_an_empty_history_is_what_training_shows(models, monkeypatch):
    """Only before the first clip; it is no history to decode behind."""
    seen = []
    prepare = clip_maker.prepare

    def spy(dit, text, negative, audio, reference, motion, guided):
        seen.append(np.asarray(motion))
        return prepare(dit, text, negative, audio, reference, motion, guided)

    monkeypatch.setattr(clip_maker, "prepare", spy)
    clips = list(clips_of(models, num_clips=2, empty_history=True))
    assert [len(clip.frames) for clip in clips] == [5, 8]
    assert seen[0].shape == seen[1].shape and not seen[0].any() and seen[1].any()


def test_guidance_off_is_the_conditional_branch(models):
    frames = [next(clips_of(models, num_clips=1, sample_guide_scale=scale)).frames for scale in (1.0, 0.0, 1.001)]
    np.testing.assert_array_equal(frames[0], frames[1])
    np.testing.assert_allclose(frames[0], frames[2], atol=0.05)


@pytest.mark.slow
def test_what_a_student_s_steps_draw_is_the_clip_s_own(models):
    student = dict(sample_solver="renoise", sample_guide_scale=1.0)
    one, two = ([clip.latents for clip in clips_of(models, num_clips=n, **student)] for n in (1, 2))
    np.testing.assert_array_equal(one[0], two[0])
    keys = {tuple(seeded_key(seed)(clip).tolist()) for seed, clip in ((5, 0), (5, 1), (7, 0))}
    assert len(keys) == 3
    euler = next(clips_of(models, num_clips=1, sample_solver="euler", sample_guide_scale=1.0)).latents
    assert np.abs(one[0] - euler).max() > 0.01


@pytest.mark.slow
def test_fewer_latents_are_decoded_before_a_clip(models):
    _, vae = models
    rng = np.random.default_rng(0)
    motion, latents = (rng.standard_normal((1, n, 8, 8, vae.config.z_dim)).astype(np.float32) for n in (6, 2))
    all_of_them = clip_maker.decode(vae, motion, latents)
    np.testing.assert_array_equal(clip_maker.decode(vae, motion, latents, context=9), all_of_them)
    fewer = clip_maker.decode(vae, motion, latents, context=2)
    np.testing.assert_array_equal(fewer, clip_maker.decode(vae, motion[:, -2:], latents))
    assert fewer.shape == all_of_them.shape and np.abs(fewer - all_of_them).max() > 0


@pytest.mark.slow
def test_a_clip_begins_as_so_many_latents_before_it_end(models):
    (first, second), (same, other) = (list(clips_of(models, decode_context=n)) for n in (None, 1))
    np.testing.assert_array_equal(first.frames, same.frames)  # there is nothing before it
    np.testing.assert_array_equal(second.latents, other.latents)
    assert second.frames.shape == other.frames.shape and np.abs(second.frames - other.frames).max() > 0


def test_the_next_clip_looks_back_at_the_latents_themselves():
    """Numbered latents: the last five before the next clip. A video's very first shows one frame, and is left out."""
    row = lambda *numbers: np.array(numbers, np.float32).reshape(1, -1, 1, 1, 1)  # noqa: E731
    behind = lambda before, latents, first: clip_maker.continued(before, latents, first=first).ravel().tolist()  # noqa: E731
    history = row(-1, -2, -3, -4, -5)
    assert behind(history, row(1, 2, 3), True) == [-1, -2, -3, 2, 3]
    assert behind(history, row(1, 2, 3, 4, 5, 6, 7), True) == [3, 4, 5, 6, 7]
    assert behind(row(1, 2, 3, 4, 5), row(6, 7), False) == [3, 4, 5, 6, 7]
    assert behind(row(1, 2, 3, 4, 5), row(6, 7, 8, 9, 10, 11), False) == [7, 8, 9, 10, 11]


@pytest.mark.slow
def test_a_clip_whose_latents_are_kept_is_followed_by_another(models):
    (first, second), (same, other) = (list(clips_of(models, keep_latents=kept)) for kept in (False, True))
    np.testing.assert_array_equal(first.latents, same.latents)
    assert second.frames.shape == other.frames.shape and np.abs(second.latents - other.latents).max() > 0


def test_a_lead_in_is_heard_before_the_sound_and_not_shown(models):
    """A first clip that hears the same shows the same, but for the frames of the lead-in."""
    heard, subject = [], subject_of(models, num_clips=2)
    sound = lambda start, frames: heard.append(start) or subject.audio(start, frames)  # noqa: E731
    made = ClipMaker(*models).clips(dataclasses.replace(subject, audio=sound), Settings(**SETTINGS, lead_in_frames=2))
    first, second = made
    assert heard == [-5, 3]
    assert first.frames.shape[0] == 3 and second.frames.shape[0] == 8
    early = dataclasses.replace(subject, audio=lambda start, frames: subject.audio(start - 2, frames))
    whole = next(ClipMaker(*models).clips(early, Settings(**SETTINGS)))
    np.testing.assert_array_equal(first.frames, whole.frames[2:])


def test_a_tiny_decoder_shows_the_same_latents(models):
    config = TinyDecoderConfig(models[1].config.z_dim, (4, 4, 4, 4), 1, (1, 2, 2), 2)
    made = {"full": models[1], "tiny": random_module(TinyDecoder, config)}
    subject = subject_of(models, num_clips=2)
    maker = ClipMaker(*models, decoder_of=made.__getitem__)
    (first, second), (own, _) = (
        list(maker.clips(subject, Settings(**SETTINGS, decoder=name))) for name in ("tiny", "full")
    )
    np.testing.assert_array_equal(first.latents, own.latents)
    assert first.frames.shape == own.frames.shape and second.frames.shape == (8, 128, 128, 3)
    shown = clip_maker.decode(made["tiny"], None, jnp.asarray(first.latents[None]))
    np.testing.assert_array_equal(first.frames, shown[0])
    assert np.abs(first.frames).max() <= 1 and np.abs(first.frames - own.frames).max() > 0


def test_weights_without_a_tiny_decoder_say_how_to_add_one():
    check_decoder("full", None)
    with pytest.raises(UserError, match="w has no tiny decoder; add one by talkverse-jax convert") as error:
        check_decoder("tiny", None, "w")
    assert error.value.field == "decoder"


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"infer_frames": 6}, "--infer_frames 6: a latent frame holds 4 frames; give a multiple of 4, such as 8"),
        ({"infer_frames": 3}, "--infer_frames 3: give 4 or more"),
        ({"sample_steps": 0}, "--sample_steps 0: give 1 or more"),
        ({"sample_shift": -1.0}, "--sample_shift -1.0"),
        ({"lead_in_frames": 5}, "--lead_in_frames 5: the first clip has no more frames; give at most 4"),
        ({"lead_in_frames": 4, "init_first_frame": True}, "--lead_in_frames 4: a video that begins with the picture"),
        ({"lead_in_frames": 4, "audio_alignment": "upstream"}, "give --audio_alignment exact"),
    ],
)
def test_settings_that_cannot_work_say_so(changes, message):
    with pytest.raises(UserError) as error:
        check_frames(Settings(**SETTINGS | changes), VAEConfig.wan22())
    assert message in str(error.value)


def test_a_clip_that_is_stopped_leaves_the_state_as_it_was(models):
    maker, settings = ClipMaker(*models), Settings(**SETTINGS)
    state = maker.start(subject_of(models), settings, Events())
    for after in (1, 2):
        with pytest.raises(Cancelled):
            list(maker.advance([state], [Steps(stop_after=after)]))
    [(_, clip, following)] = maker.advance([state], [Events()])
    [first, _] = clips_of(models)
    np.testing.assert_array_equal(clip.frames, first.frames)
    assert (state.clip, following.clip) == (0, 1)


def test_one_of_two_who_wants_to_stop_stops_nobody(models):
    maker, settings = ClipMaker(*models), Settings(**SETTINGS)
    states = [maker.start(subject_of(models), settings, Events()) for _ in range(2)]
    made = list(maker.advance(states, [Steps(stop_after=1), Steps()]))
    assert [place for place, *_ in made] == [0, 1] and states == []
