"""Where live sound comes from."""

import io
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from talkverse_jax.core.errors import UserError
from talkverse_jax.media.live_source import microphone_sound, paced_sound, pipe_sound

TONE = np.round(np.sin(np.arange(3200) / 5) * 20_000).astype("<i2")
HEARD = TONE / np.float32(1 << 15)


class Drops(io.BytesIO):
    """Hands over no more than 7 bytes at once."""

    def read(self, size: int | None = 7, /) -> bytes:
        return super().read(min(size or 7, 7))


def wav(samples: np.ndarray, rate: int, subtype: str = "PCM_16") -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format="WAV", subtype=subtype)
    return file.getvalue()


@pytest.mark.parametrize("pipe", [io.BytesIO, Drops])
def test_bare_samples(pipe):
    blocks = list(pipe_sound(pipe(TONE.tobytes()), 16_000, 16_000))
    np.testing.assert_array_equal(np.concatenate(blocks), HEARD)


@pytest.mark.parametrize("pipe", [io.BytesIO, Drops])
def test_a_wav_says_what_it_is(pipe):
    stereo = np.stack([TONE, TONE], axis=1)
    blocks = list(pipe_sound(pipe(wav(stereo, 8_000)), 44_100, 16_000))
    assert sum(map(len, blocks)) == 2 * len(TONE)
    np.testing.assert_allclose(np.concatenate(blocks)[200:-200:2], HEARD[100:-100], atol=0.03)


@pytest.mark.parametrize(
    "bytes_, said",
    [
        (wav(TONE, 16_000, "PCM_24"), "1 channels of 24 bits"),
        (b"RIFF....nothing", "begins like a wav and is none"),
        (b"RIFF....WAVEdata\0\0\0\0", "without samples"),
        (b"RIFF....WAVE", "without samples"),
    ],
)
def test_a_wav_of_another_kind(bytes_, said):
    with pytest.raises(UserError, match=f"{said}.*16.bit"):
        list(pipe_sound(io.BytesIO(bytes_), 16_000, 16_000))


def test_a_file_comes_at_its_own_speed(tmp_path):
    path = tmp_path / "tone.wav"
    path.write_bytes(wav(TONE, 16_000))
    begun = time.monotonic()
    blocks = list(paced_sound(str(path), 16_000)())
    assert time.monotonic() - begun >= 0.2
    np.testing.assert_array_equal(np.concatenate(blocks), HEARD)


def test_a_file_that_is_not_there():
    with pytest.raises(UserError, match=r"nothing\.wav"):
        paced_sound(str(Path("nothing.wav")), 16_000)


def test_no_microphone():
    with pytest.raises(UserError, match="cannot be opened.*pipe its sound in"):
        next(microphone_sound(16_000, "nosuch:thing"))
