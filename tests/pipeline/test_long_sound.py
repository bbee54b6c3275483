"""Features in windows against those of one pass, and what a long sound takes."""

import json
import subprocess
import sys

import numpy as np
import pytest
import soundfile

from talkverse_jax.core.errors import UserError
from talkverse_jax.families.talkverse.alignment import clip_audio
from talkverse_jax.families.talkverse.components import COMPONENTS
from talkverse_jax.media.audio import open_sound
from talkverse_jax.pipeline.encoders import AudioEncoder
from talkverse_jax.pipeline.long_sound import check_window, sound_features
from talkverse_jax.toy.speech import RATE, speak
from talkverse_jax.weights import store
from tests.processes import ROOT


@pytest.fixture(scope="module")
def encoder(tiny_weights):
    return AudioEncoder(store.load_module(tiny_weights, COMPONENTS["audio"], dtype="float32"))


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """62 s of speech-like sound."""
    path = tmp_path_factory.mktemp("sound") / "long.wav"
    soundfile.write(path, speak(np.random.default_rng(0), 62.3).sound, RATE)
    return open_sound(path)


def test_windows_are_near_one_pass(encoder, sound):
    whole = sound_features(encoder, sound, 0)
    windows = sound_features(encoder, sound, 30)
    assert len(windows) == len(whole) == 1557
    found = windows[np.arange(len(whole))]
    error = np.sqrt(np.mean((found - whole) ** 2, axis=(0, 2)) / np.mean(whole**2, axis=(0, 2)))
    assert error[0] < 1e-3  # the first layer's input sees 2.6 s around it, which every window has
    assert error.max() < 0.1
    # a window's rows come from its middle: at its ends it would be much further off
    assert error.max() > 1e-7


def test_rows_are_asked_for_in_clips_and_again(encoder, sound):
    windows = sound_features(encoder, sound, 30)
    found = np.concatenate([clip_audio(windows, start, 120) for start in range(-3, 1557, 120)])
    again = sound_features(encoder, sound, 30)
    late = clip_audio(again, 1197, 120)  # a run that goes on
    np.testing.assert_array_equal(late, found[1200:1320])
    np.testing.assert_array_equal(clip_audio(again, 117, 120), found[120:240])  # and back
    assert not found[1561:].any() and found[:3].any()


def test_a_short_sound_is_one_pass(encoder, sound):
    assert isinstance(sound_features(encoder, sound, 63), np.ndarray)


def test_a_window_needs_a_middle():
    check_window(0)
    check_window(30)
    with pytest.raises(UserError, match="--audio_window 29: give 30 seconds or more, or 0"):
        check_window(29)


PEAK = """
import json, resource, sys
from talkverse_jax.cli.command import run_command
import sample
run_command(lambda: sample.main(sys.argv[1:]))
print(json.dumps(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss))
"""


@pytest.mark.slow
def test_twenty_minutes_take_the_memory_of_one(tiny_weights, tmp_path):
    """Of a stereo sound at 48 kHz, which alone is 460 MB."""
    peaks = {}
    for minutes in (1, 20):
        mono = np.tile(np.repeat(speak(np.random.default_rng(0), 60).sound, 3), minutes)
        soundfile.write(tmp_path / "long.flac", np.stack([mono, mono], 1), 48000)
        flags = {
            "weights": tiny_weights,
            "image": ROOT / "assets/face.png",
            "audio": tmp_path / "long.flac",
            "prompt": "",
            "output": tmp_path / f"{minutes}.mp4",
            "size_bucket": "tiny-128",
            "sample_steps": 1,
            "sample_guide_scale": 1,
            "dtype": "float32",
        }
        words = [word for name, value in flags.items() for word in (f"--{name}", str(value))]
        done = subprocess.run([sys.executable, "-c", PEAK, *words], stdout=subprocess.PIPE, text=True, cwd=ROOT)
        assert done.returncode == 0
        peaks[minutes] = json.loads(done.stdout.splitlines()[-1])
        record = json.loads((tmp_path / f"{minutes}.json").read_text())
        assert record["frames"] == minutes * 1500
    print(peaks)
    assert peaks[20] <= 1.05 * peaks[1], peaks
