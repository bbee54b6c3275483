import numpy as np
import pytest

from talkverse_jax.evaluate.sound import loudness, sync
from talkverse_jax.toy import speech as module
from talkverse_jax.toy.speech import FPS, RATE, speak
from talkverse_jax.toy.timbre import Recording, Timbre

PLAIN = Timbre(140, 1, 0, 1, (1, 1, 1), 1.2, 0, 0.01, 1, 1, 1, 1.5)
STUDIO = Recording(20, RATE / 2, (), 0, 0, 0, 0.8)


@pytest.fixture
def plain(monkeypatch):
    """One voice, as it is."""
    monkeypatch.setattr(module, "draw_voice", lambda rng: PLAIN)
    monkeypatch.setattr(module, "draw_recording", lambda rng: STUDIO)


@pytest.fixture
def speech(plain):
    return speak(np.random.default_rng(1), 8.0)


def test_lengths_and_ranges(speech):
    assert speech.sound.shape == (8 * RATE,)
    assert speech.sound.dtype == np.float32
    assert np.isfinite(speech.sound).all()
    assert 0.5 < np.abs(speech.sound).max() <= 1
    assert speech.opening.shape == speech.width.shape == (8 * FPS,)
    assert speech.opening.min() >= 0 and speech.opening.max() <= 1
    assert speech.opening.max() > 0.7 and (speech.opening < 0.02).mean() > 0.1  # wide vowels, pauses


def test_a_length_cuts_the_same_speech():
    """What is said does not depend on how long one listens, but for its loudest moment."""
    whole, short = (speak(np.random.default_rng(1), seconds) for seconds in (8.0, 4.0))
    np.testing.assert_array_equal(short.opening[:98], whole.opening[:98])
    assert not np.array_equal(speak(np.random.default_rng(2), 4.0).opening, short.opening)


def test_the_sound_is_there_when_the_mouth_is_open(speech):
    pieces = speech.sound[: 8 * FPS * (RATE // FPS)].reshape(8 * FPS, -1)
    power = np.sqrt((pieces**2).mean(1))
    middle = np.interp(np.arange(8 * FPS) + 0.5, np.arange(8 * FPS), speech.opening)
    assert power[middle > 0.6].min() > 10 * np.median(power[middle < 0.01])


def test_of_any_voice_the_vowels_tell_the_opening():
    for number in range(4):
        said = speak(np.random.default_rng([9, number]), 4.0)
        heard = sync(said.opening, loudness(said.sound, np.arange(len(said.opening)) / FPS), 0.01)
        assert heard and heard.correlation > 0.95 and heard.lag == 0


@pytest.mark.parametrize("vowel, valley", [("a", 1800), ("i", 1200), ("u", 1500)])
def test_vowels_have_their_formants(monkeypatch, plain, vowel, valley):
    """Of somebody who says "mamama": the first formant, and the second above what lies beside it."""
    said = module._VOWELS[vowel]
    monkeypatch.setattr(module, "_VOWELS", {vowel: said})
    monkeypatch.setattr(module, "_CONSONANTS", {"m": module._CONSONANTS["m"]})
    sound = speak(np.random.default_rng(3), 6.0).sound
    spectrum = np.abs(np.fft.rfft(sound)) ** 2
    hertz = np.fft.rfftfreq(len(sound), 1 / RATE)
    first, second, between = (spectrum[np.abs(hertz / f - 1) < 0.13].mean() for f in (*said.formants[:2], valley))
    assert first > second > 2 * between
