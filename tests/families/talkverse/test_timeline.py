"""Clips and frames from the length of a sound, and from nothing else."""

import math
from functools import partial

import numpy as np
import pytest
import soundfile

from talkverse_jax.core.errors import UserError
from talkverse_jax.families.talkverse.alignment import frames_lost
from talkverse_jax.families.talkverse.family import FAMILY
from talkverse_jax.families.talkverse.settings import Settings
from talkverse_jax.families.talkverse.timeline import frames_in_sound, make_timeline
from talkverse_jax.pipeline.events import Events
from talkverse_jax.pipeline.machine import Machine, Weights
from tests.second.places import FACE


@pytest.fixture(scope="module")
def loaded(tiny_weights):
    return FAMILY.load_pipeline(Weights(str(tiny_weights)), Machine(dtype="float32"), keep_encoders=True)


def job(loaded, folder, samples, rate, **settings):
    path = folder / f"{samples}_{rate}.wav"
    soundfile.write(path, 0.3 * np.sin(np.arange(samples) / 20), rate)
    return loaded.job(image=str(FACE), audio=str(path), prompt="", size_bucket="tiny-128", infer_frames=24, **settings)


@pytest.mark.parametrize("seconds, frames", [(0.04, 1), (0.041, 2), (1.0, 25), (4.68, 117), (4.7, 118)])
def test_a_video_covers_its_sound(seconds, frames):
    assert frames_in_sound(seconds) == frames


def test_rows_are_counted_as_the_encoder_makes_them(loaded, tmp_path):
    """In one pass and in windows, at the model's rate and at others: the original's clips depend on them."""
    lengths = [(n, 16_000) for n in (640, 959, 960, 961, 1280, 15_999, 16_079, 16_080, 30_400, 500_123)]
    lengths += [(n, 44_100) for n in (1764, 2205, 44_099, 88_888, 1_400_000)] + [(8_001, 8_000), (48_003, 48_000)]
    for samples, rate in lengths:
        for first in (False, True):
            one = job(
                loaded, tmp_path, samples, rate, audio_alignment="upstream", init_first_frame=first, audio_window=30
            )
            encoded = loaded.encode(one, Events())
            lost = 0 if first else 3
            wanted = make_timeline(one.settings, samples / rate, len(encoded.audio), lost)
            assert FAMILY.timeline(one, FAMILY.read(one)) == loaded.timeline(encoded) == wanted, (samples, rate)


def test_a_lead_in_is_made_and_not_shown_and_no_sound_is_lost():
    settings = partial(Settings, prompt="", infer_frames=24)
    plain, led = (make_timeline(one, 2.0, 50, frames_lost(one, 4)) for one in (settings(), settings(lead_in_frames=5)))
    assert plain.frames == led.frames == 50
    assert plain.starts == (0, 21, 45) and led.starts == (0, 16, 40)


def test_exact_ends_with_the_sound(loaded, tmp_path):
    for samples in (700, 16_000, 16_001, 40_000):
        found = FAMILY.timeline(
            one := job(loaded, tmp_path, samples, 16_000, head_trim_frames=1 * (samples > 700)), FAMILY.read(one)
        )
        assert found.frames == math.ceil(samples / 640) and found.clips == math.ceil((found.frames + 3) / 24)
    with pytest.raises(UserError, match="9: the video has 2 frames; trim fewer"):
        FAMILY.timeline(one := job(loaded, tmp_path, 700, 16_000, head_trim_frames=9), FAMILY.read(one))
