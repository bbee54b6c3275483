import numpy as np
import pytest

from talkverse_jax.toy.timbre import RATE, Recording, draw_recording, draw_voice, larynx, recorded, tilted

STUDIO = Recording(20, RATE / 2, (), 0, 0, 0, 0.8)


def test_voices_differ():
    voices = [draw_voice(np.random.default_rng(n)) for n in range(200)]
    pitches = np.array([voice.pitch for voice in voices])
    assert pitches.min() < 95 and pitches.max() > 260
    throats = [voice.throat for voice in voices]
    assert np.corrcoef(np.log(pitches), throats)[0, 1] > 0.5 and 0.8 < min(throats) < max(throats) < 1.2
    recordings = [draw_recording(np.random.default_rng(n)) for n in range(200)]
    assert 0.3 < np.mean([not recording.bells for recording in recordings]) < 0.5  # in a studio
    assert {recording.echo > 0 for recording in recordings} == {recording.noise > 0 for recording in recordings}


def test_the_larynx_keeps_its_pitch():
    voice = draw_voice(np.random.default_rng(0))._replace(shake=0.01)
    pulses = larynx(voice, np.full(4 * RATE, 120.0), np.random.default_rng(0))
    assert pulses.sum() == pytest.approx(480, abs=3)
    assert np.diff(np.flatnonzero(pulses)).std() > 0.5  # samples


def test_tilt_is_decibels_an_octave():
    amplitude = tilted(np.array([100.0, 2000.0, 4000.0, 8000.0]), 6.0)
    assert amplitude[0] == pytest.approx(1, abs=0.02)
    np.testing.assert_allclose(20 * np.log10(amplitude[1:-1] / amplitude[2:]), 6, atol=0.3)


def test_a_microphone_has_a_band():
    """And its peak is as asked."""
    tones = sum(np.sin(2 * np.pi * f * np.arange(RATE) / RATE) for f in (50, 1000, 7000))
    telephone = STUDIO._replace(low=250, high=3500, bells=((1000, 0.0), (1000, 0.0)))
    heard = recorded(tones, telephone, np.random.default_rng(0))
    low, middle, high = np.abs(np.fft.rfft(heard))[[50, 1000, 7000]]
    assert heard.dtype == np.float32 and np.abs(heard).max() == pytest.approx(0.8)
    assert middle > 10 * low and middle > 10 * high


def test_a_room_answers():
    clap = np.zeros(RATE)
    clap[1000] = 1
    heard = recorded(clap, STUDIO._replace(echo=0.5, seconds=0.2), np.random.default_rng(0))
    tail = np.sqrt((heard[1001:] ** 2).sum()) / heard[1000]
    assert tail == pytest.approx(0.5, rel=0.3) and np.abs(heard[:1000]).max() < 1e-9
    assert np.abs(heard[4200:]).max() < 1e-3 * heard[1000]
