"""Sounds as files: what is heard, how long, and the same bytes every time."""

import numpy as np
import pytest

from talkverse_jax.helpers.speech.engine import Utterance
from talkverse_jax.helpers.speech.formats import FORMATS, encode
from talkverse_jax.media.audio import read_audio

RATE = 22_050
TONE = Utterance((0.5 * np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE)).astype(np.float32), RATE)
BEGINS = {"mp3": b"ID3", "opus": b"OggS", "aac": b"\xff\xf1", "flac": b"fLaC", "wav": b"RIFF"}


@pytest.mark.parametrize("name", BEGINS)
def test_what_was_said_is_heard(name, tmp_path):
    data = encode(TONE, name)
    assert data.startswith(BEGINS[name]) and data == encode(TONE, name)
    (tmp_path / "x").write_bytes(data)
    heard = read_audio(tmp_path / "x", RATE)
    spectrum = np.abs(np.fft.rfft(heard.samples[2000:20000] * np.hanning(18000)))
    assert abs(spectrum.argmax() * RATE / 18000 - 440) < 3 and abs(heard.duration - 1) < 0.1
    assert abs(np.abs(heard.samples[2000:20000]).max() - 0.5) < 0.05
    assert heard.native.shape[1] == 1


def test_lossless_ones_have_16_bits(tmp_path):
    for name in ("wav", "flac"):
        (tmp_path / name).write_bytes(encode(TONE, name))
        heard = read_audio(tmp_path / name, RATE)
        assert heard.native_rate == RATE and np.abs(heard.native[:, 0] - TONE.samples).max() < 1e-4


def test_bare_samples():
    samples = np.frombuffer(encode(TONE, "pcm"), "<i2")
    assert len(samples) == 24_000 and abs(samples.max() - 16384) < 20
    loud = Utterance(np.array([2, -2, 0], np.float32), 24_000)
    assert np.frombuffer(encode(loud, "pcm"), "<i2").tolist() == [32767, -32768, 0]


def test_media_types():
    kinds = {name: each.media_type for name, each in FORMATS.items()}
    assert kinds == {
        "mp3": "audio/mpeg",
        "opus": "audio/ogg",
        "aac": "audio/aac",
        "flac": "audio/flac",
        "wav": "audio/wav",
        "pcm": "audio/pcm",
    }
