from collections import Counter

import numpy as np
import pytest

from talkverse_jax.core.errors import UserError
from talkverse_jax.data.windows import Lengths, choose
from talkverse_jax.media.bad_sample import BadSample
from talkverse_jax.models.vae.config import Strides, VAEConfig

STRIDES = VAEConfig.wan22().strides
LENGTHS = Lengths(120, 73, strides=STRIDES)


@pytest.mark.parametrize(("frames", "kind"), [(120, "short"), (192, "short"), (193, "motion"), (1000, "motion")])
def test_the_kind_follows_from_the_length(frames, kind):
    assert LENGTHS.kind(frames) == kind
    assert LENGTHS.window("motion") == 193
    assert LENGTHS.window("short") == 120


def test_too_short():
    with pytest.raises(BadSample, match="too short") as caught:
        LENGTHS.kind(119)
    assert caught.value.detail == "119 frames at 25 fps in its longest scene; 120 are needed"
    with pytest.raises(BadSample, match="too short"):
        Lengths(120, 73, always_motion=True, strides=STRIDES).kind(192)
    assert Lengths(120, 73, always_motion=True, strides=STRIDES).kind(193) == "motion"


def test_frames_that_are_no_latent_frames():
    for frames in (0, 30):
        with pytest.raises(UserError, match=f"--num_frames {frames}: .* multiple of 4"):
            Lengths(frames, 73, strides=STRIDES)
    assert Lengths(120, 73, strides=STRIDES).latent_frames == 30
    assert Lengths(30, 73, strides=Strides(2, 8)).latent_frames == 15


def drawn(scene, length, frames, times=2000):
    rng = np.random.default_rng(0)
    return [choose(rng, scene, length, frames) for _ in range(times)]


def test_every_start_in_the_scene_is_as_likely():
    starts = Counter(window.start for window in drawn((30, 59), 20, 200, times=11_000))
    assert set(starts) == set(range(30, 41))
    assert min(starts.values()) > 850


def test_a_scene_just_long_enough():
    assert {window.start for window in drawn((7, 26), 20, 100)} == {7}


def test_the_reference_is_15_frames_away():
    for window in drawn((40, 99), 20, 140):
        away = [*range(window.start - 15), *range(window.start + 35, 140)]
        assert window.reference in away
    references = {window.reference for window in drawn((40, 59), 20, 80)}
    assert references == {*range(25), *range(75, 80)}


def test_without_room_the_reference_is_one_of_the_window():
    assert {window.reference for window in drawn((0, 29), 30, 45)} == set(range(30))
    assert {window.reference for window in drawn((0, 29), 30, 46)} == {45}
