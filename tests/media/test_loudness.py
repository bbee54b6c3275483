"""Loudness by ITU-R BS.1770, in blocks."""

import math

import numpy as np
import pytest

from talkverse_jax.core.errors import UserError
from talkverse_jax.media.loudness import gain, loudness

RATE = 16_000


def sine(seconds: float, level: float = 0.0, frequency: float = 997.0) -> np.ndarray:
    """At so many dB below full scale."""
    time = np.arange(round(seconds * RATE)) / RATE
    return (10 ** (level / 20) * np.sin(2 * np.pi * frequency * time)).astype(np.float32)


def silence(seconds: float) -> np.ndarray:
    return np.zeros(round(seconds * RATE), np.float32)


@pytest.fixture
def bundle(golden):
    return golden("multitalk/multitalk_wav2vec2")


def test_golden(bundle):
    found = loudness([bundle.group("inputs")["sound"]], RATE)
    assert found == pytest.approx(bundle.meta["loudness_in"], abs=2e-7)
    louder = bundle.group("inputs")["sound"] * gain(found, bundle.meta["loudness_out"])
    np.testing.assert_allclose(louder, bundle.group("taps")["waveform"], rtol=0, atol=1e-7)
    assert loudness([louder], RATE) == pytest.approx(-23, abs=1e-5)


@pytest.mark.parametrize("parts", [1, 2, 7, 1000, 26_150])
def test_blocks_change_nothing(bundle, parts):
    sound = bundle.group("inputs")["sound"]
    assert loudness(np.array_split(sound, parts), RATE) == pytest.approx(loudness([sound], RATE), abs=1e-9)


@pytest.mark.parametrize("level", [0.0, -20.0, -60.0])
def test_a_sine_has_the_standards_loudness(level):
    """-3.01 LUFS at full scale, within the tenth of a dB that meters may be off (EBU Tech 3341)."""
    assert loudness([sine(5, level)], RATE) == pytest.approx(level - 3.01, abs=0.1)


def test_low_tones_count_less_and_high_ones_more():
    middle = loudness([sine(5)], RATE)
    assert loudness([sine(5, frequency=30.0)], RATE) < middle - 6
    assert middle + 3 < loudness([sine(5, frequency=5000.0)], RATE) < middle + 4


def test_quiet_parts_are_left_out():
    """Silence, and what is 10 LU quieter than the rest; what is 6 LU quieter counts."""
    loud = loudness([sine(10)], RATE)
    assert loudness([sine(10), silence(60)], RATE) == pytest.approx(loud, abs=0.2)
    assert loudness([sine(10), sine(60, -30.0)], RATE) == pytest.approx(loud, abs=0.2)
    half = 10 * math.log10((1 + 10**-0.6) / 2)
    assert loudness([sine(30), sine(30, -6.0)], RATE) == pytest.approx(loud + half, abs=0.1)


def test_silence_is_left_as_it_is():
    assert loudness([silence(3)], RATE) == -math.inf
    assert loudness([sine(3, -80.0)], RATE) == -math.inf
    assert gain(-math.inf) == 1.0
    assert gain(-25.0) == pytest.approx(10 ** (2 / 20)) and gain(-25.0, -25.0) == 1.0


def test_a_last_block_that_is_cut_short():
    """0.46 s are two blocks, the second of 0.36 s, as if silence followed; 0.44 s are one."""
    filtered = loudness([sine(0.46)], RATE)
    assert loudness([sine(0.46), silence(0.04)], RATE) == pytest.approx(filtered, abs=1e-2)
    assert loudness([sine(0.44)], RATE) == loudness([sine(0.4)], RATE)


@pytest.mark.parametrize("sound", [[], [silence(0.39)]])
def test_shorter_than_a_block_is_refused(sound):
    with pytest.raises(UserError, match=r"a.wav: 0.[03][09] s long; give 0.4 s or more"):
        loudness(sound, RATE, "a.wav")
    assert loudness([silence(0.4)], RATE, "a.wav") == -math.inf
