import librosa
import numpy as np
import pytest
import soundfile
from PIL import Image

from talkverse_jax.core.errors import UserError
from talkverse_jax.media.audio import read_audio
from talkverse_jax.media.video_writer import VideoWriter


def _tone(seconds, rate, channels=2):
    t = np.arange(round(seconds * rate)) / rate
    tones = [0.4 * np.sin(2 * np.pi * f * t) * np.sin(3 * t) for f in (330, 520)]
    return np.stack(tones[:channels], axis=1).astype(np.float32)


@pytest.mark.parametrize("kind", ["PCM_U8", "PCM_16", "PCM_24", "FLOAT"])
@pytest.mark.parametrize("rate", [8000, 16000, 44100])
def test_wav_equals_librosa(tmp_path, kind, rate):
    path = tmp_path / "a.wav"
    soundfile.write(path, _tone(1.3, rate), rate, subtype=kind)
    sound = read_audio(path)
    np.testing.assert_allclose(sound.samples, librosa.load(path, sr=16000)[0], atol=1e-6, rtol=0)
    np.testing.assert_allclose(sound.native, soundfile.read(path)[0], atol=1e-7)
    assert (sound.rate, sound.native_rate, sound.notices) == (16000, rate, ())
    assert sound.samples.dtype == np.float32 and sound.duration == pytest.approx(1.3)


@pytest.mark.parametrize(
    "name, codec", [("a.mp3", "libmp3lame"), ("a.flac", "flac"), ("a.m4a", "aac"), ("a.ogg", "libopus")]
)
@pytest.mark.parametrize("channels", [1, 2])
def test_compressed_sound(encode_sound, name, codec, channels):
    samples = _tone(2.0, 48000, channels)
    sound = read_audio(encode_sound(name, codec, samples, 48000))
    assert sound.native.shape == samples.shape and sound.notices == ()
    assert np.abs(sound.native - samples).mean() < 0.01  # mp3 comes back one sample late
    assert len(sound.samples) == 32000


def test_the_sound_of_a_video(tmp_path):
    samples = _tone(1.0, 44100)
    with VideoWriter(tmp_path / "a.mp4", width=32, height=32, sound=[samples], rate=44100) as writer:
        writer.write(np.zeros((25, 32, 32, 3), np.uint8))
    sound = read_audio(tmp_path / "a.mp4")
    assert sound.native.shape == samples.shape and np.abs(sound.native - samples)[2000:-2000].max() < 0.02


@pytest.mark.parametrize("name, codec", [("a.mp3", "libmp3lame"), ("a.flac", "flac")])
def test_truncated(encode_sound, name, codec):
    """What is there is used, and the user hears of it."""
    path = encode_sound(name, codec, _tone(4.0, 44100), 44100)
    path.write_bytes(path.read_bytes()[: int(0.6 * path.stat().st_size)])
    sound = read_audio(path)
    assert 2.0 < sound.duration < 3.0 and np.abs(sound.native).max() > 0.3
    assert f"{path}: damaged or cut short; of 4.00 s" in sound.notices[0]


def test_a_truncated_wav(tmp_path):
    path = tmp_path / "a.wav"
    soundfile.write(path, np.full(32000, 0.1), 16000)
    assert read_audio(path).notices == ()
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    [notice] = read_audio(path).notices
    assert f"{path}: damaged or cut short; of 2.00 s it promises, the 1.00 s" in notice
    path.write_bytes(whole[:4] + b"\xff" * 4 + whole[8 : len(whole) // 2])  # streamed: its length was not known
    assert read_audio(path).notices == ()


def test_silence_is_allowed_and_said(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros(16000), 16000)
    sound = read_audio(tmp_path / "a.wav")
    assert len(sound.samples) == 16000 and "a.wav: is silent" in sound.notices[0]


def test_shorter_than_a_frame(tmp_path):
    soundfile.write(tmp_path / "audio.wav", np.ones(320) * 0.1, 16000)
    with pytest.raises(UserError, match=r"audio.wav: 0.02 s long; one frame needs 0.04 s"):
        read_audio(tmp_path / "audio.wav")


def test_no_sound(tmp_path):
    with pytest.raises(UserError, match="none.wav: no such file"):
        read_audio(tmp_path / "none.wav")
    (tmp_path / "empty.wav").touch()
    with pytest.raises(UserError, match="empty.wav: the file is empty"):
        read_audio(tmp_path / "empty.wav")
    soundfile.write(tmp_path / "header.wav", np.zeros(0), 16000)
    with pytest.raises(UserError, match="header.wav: no sound could be decoded"):
        read_audio(tmp_path / "header.wav")
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    with pytest.raises(UserError, match=r"a.png: is a picture \(PNG\); give the file of a sound"):
        read_audio(tmp_path / "a.png")
    (tmp_path / "text.wav").write_text("la la la " * 100)
    with pytest.raises(UserError, match="text.wav: cannot be read as a sound") as error:
        read_audio(tmp_path / "text.wav")
    assert "\n" not in str(error.value)


def test_values_that_are_no_numbers(tmp_path):
    samples = np.full(16000, 0.1, np.float32)
    samples[8000] = np.nan
    soundfile.write(tmp_path / "a.wav", samples, 16000, subtype="FLOAT")
    with pytest.raises(UserError, match=r"a.wav: holds values that are no numbers, at 0.50 s"):
        read_audio(tmp_path / "a.wav")


def test_tags_in_another_encoding(tmp_path):
    """As old Windows programs write them."""
    tag = b"INFOINAM" + (6).to_bytes(4, "little") + b"Caf\xe9!\0"
    soundfile.write(tmp_path / "a.wav", np.full(16000, 0.1), 16000)
    data = bytearray((tmp_path / "a.wav").read_bytes() + b"LIST" + len(tag).to_bytes(4, "little") + tag)
    data[4:8] = (len(data) - 8).to_bytes(4, "little")
    (tmp_path / "a.wav").write_bytes(data)
    assert len(read_audio(tmp_path / "a.wav").samples) == 16000


def test_a_name_like_a_protocol(tmp_path, monkeypatch):
    soundfile.write(tmp_path / "http:30.wav", np.full(16000, 0.1), 16000)
    monkeypatch.chdir(tmp_path)
    assert len(read_audio("http:30.wav").samples) == 16000
