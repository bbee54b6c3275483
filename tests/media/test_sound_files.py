"""Sounds as phones, editors and recorders write them: each is heard as long, as loud and where it should be.

What must come out is known from how each file is made; FFmpeg's own result is a reference where it is right.
"""

import shutil
import struct
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from talkverse_jax.core.errors import UserError
from talkverse_jax.media.audio import open_sound, read_audio
from talkverse_jax.media.downmix import downmix
from tests.sounds import decibels, offset, pulses, tone, wav_bytes, write_sound
from tests.videos import chirp, write_video

RATE = 44100
PACKETS = 40  # of 1024 samples, before a gap


def said(sound) -> list[str]:
    """Its notices without the path."""
    return [notice.split(": ", 1)[1] for notice in sound.notices]


def by_ffmpeg(path: Path, layout: str) -> np.ndarray:
    """What `ffmpeg -ac 1` or `-ac 2` makes of a file, [channels, n] in [-1, 1]."""
    with av.open(str(path)) as container:
        resampler = av.AudioResampler("s32p", layout)
        parts = [made.to_ndarray() for frame in container.decode(audio=0) for made in resampler.resample(frame)]
        parts += [made.to_ndarray() for made in resampler.resample(None)]
    return np.concatenate(parts, axis=1) / 2.0**31


# How long


@pytest.mark.parametrize(
    ("name", "codec", "options"), [("a.mp3", "libmp3lame", {"write_xing": "0"}), ("a.aac", "aac", {})]
)
def test_a_stream_without_a_length_is_not_called_short(tmp_path, name, codec, options):
    """FFmpeg guesses by the first packets' bit rate: 46 s and more for these four."""
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, (RATE, 1)).astype(np.float32)
    samples = np.concatenate([np.zeros((3 * RATE, 1), np.float32), noise])
    variable = {"flags": "+qscale", "global_quality": "472"} if name == "a.mp3" else {}
    path = write_sound(tmp_path / name, samples, RATE, codec, options=options, codec_options=variable)
    sound = open_sound(path)
    assert sound.duration == pytest.approx(4.0, abs=0.06) and sound.notices == ()


@pytest.mark.parametrize(
    ("bits", "scale", "extra"),
    [(32, 2**15, b"\2\0\1\0"), (24, 2**23, b"")],
    ids=["16.8 floats", "24.0 floats"],
)
def test_floats_of_odd_widths_are_as_long_as_they_are(tmp_path, bits, scale, extra):
    """Their bits are fewer than their bytes: FFmpeg promises 4 s and 2.67 s."""
    samples = tone(2.0, 16000)
    data = (samples * scale).astype("<f4").tobytes()
    (tmp_path / "a.wav").write_bytes(wav_bytes(data, 16000, 1, bits, align=4, extra=extra))
    sound = read_audio(tmp_path / "a.wav")
    assert len(sound.native) == 32000 and sound.notices == ()
    np.testing.assert_allclose(sound.native[:, 0], samples, atol=1e-6)


@pytest.mark.parametrize("valid", [24, 20, 16])
def test_a_recorders_wide_samples_are_heard(tmp_path, valid):
    """24 valid bits in 32, as Windows records: FFmpeg takes them for floats, which is noise."""
    samples = tone(2.0, 16000)
    data = (samples.astype(np.float64) * 2**31).astype("<i4").tobytes()
    extra = struct.pack("<HHI", 22, valid, 4) + bytes.fromhex("0100000000001000800000aa00389b71")
    (tmp_path / "a.wav").write_bytes(wav_bytes(data, 16000, 1, 32, 0xFFFE, extra=extra))
    sound = read_audio(tmp_path / "a.wav")
    np.testing.assert_allclose(sound.native[:, 0], samples, atol=1e-7)
    assert len(sound.native) == 32000 and sound.notices == ()


def test_halves_are_refused_by_name(tmp_path):
    (tmp_path / "a.wav").write_bytes(wav_bytes(tone(1.0, 16000).astype("<f2").tobytes(), 16000, 1, 16, 3))
    with pytest.raises(UserError, match=r"a.wav: its sound is of a kind that cannot be decoded; save it as 16-bit wav"):
        read_audio(tmp_path / "a.wav")


@pytest.mark.parametrize("whole", [0, 2**32 - 1, None])
@pytest.mark.parametrize("length", [0, 2**32 - 1])
def test_a_streamed_wav_goes_to_the_end_of_the_file(tmp_path, whole, length):
    samples = tone(2.0, 16000)
    data = bytearray(wav_bytes((samples * 32767).astype("<i2").tobytes(), 16000, 1, 16))
    data[40:44] = length.to_bytes(4, "little")
    if whole is not None:
        data[4:8] = whole.to_bytes(4, "little")
    (tmp_path / "a.wav").write_bytes(data)
    sound = read_audio(tmp_path / "a.wav")
    assert len(sound.native) == 32000 and sound.notices == ()


@pytest.mark.parametrize("options", [{}, {"rf64": "always"}], ids=["RIFF", "RF64"])
def test_a_wav_cut_short_says_of_how_much(tmp_path, options):
    path = write_sound(tmp_path / "a.wav", tone(4.0, RATE)[:, None], RATE, "pcm_s16le", options=options)
    assert open_sound(path).notices == ()
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 4])
    assert said(open_sound(path)) == [
        "damaged or cut short; of 4.00 s it promises, the 1.00 s that could be decoded are used"
    ]


def test_a_cut_recording_of_a_browser_is_said(tmp_path):
    path = write_sound(tmp_path / "a.mka", tone(4.0, 48000)[:, None], 48000, "libopus")
    assert open_sound(path).notices == ()
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    [notice] = said(open_sound(path))
    assert notice.startswith("damaged or cut short; of 4.0")


# How loud


@pytest.mark.parametrize(
    ("layout", "heard"),
    [("3.0", -7.66), ("5.0", -10.67), ("5.1", -10.67), ("5.1(side)", -10.67), ("7.1", -12.90), ("7.1(wide)", -13.68)],
)
def test_a_voice_in_the_centre_is_as_loud_as_by_the_usual_coefficients(tmp_path, layout, heard):
    """0.707 / (1 + 0.707 + 0.707) is -10.67 dB of the centre in 5.1; a sixth, as before, was -15.56."""
    names = [channel.name for channel in av.AudioLayout(layout).channels]
    samples = np.zeros((RATE, len(names)), np.float32)
    samples[:, names.index("FC")] = tone(1.0, RATE)
    sound = read_audio(write_sound(tmp_path / "a.wav", samples, RATE, layout=layout))
    voice = decibels(tone(1.0, RATE))
    assert decibels(sound.samples[1000:-1000]) - voice == pytest.approx(heard, abs=0.02)
    assert decibels(sound.native) - voice == pytest.approx(heard, abs=0.02)
    assert sound.native.shape == (RATE, 2) and said(sound) == [f"its {layout} sound is mixed down to stereo"]


@pytest.mark.parametrize("layout", ["3.0", "quad", "5.0", "5.1", "5.1(side)", "7.0", "7.1", "7.1(wide)"])
def test_surround_is_mixed_down_as_ffmpeg_does(tmp_path, layout):
    count = av.AudioLayout(layout).nb_channels
    samples = np.random.default_rng(1).normal(0, 0.1, (8000, count)).astype(np.float32).clip(-1, 1)
    path = write_sound(tmp_path / "a.wav", samples, 16000, layout=layout)
    sound = read_audio(path)
    np.testing.assert_allclose(sound.native.T, by_ffmpeg(path, "stereo"), atol=1e-6)
    np.testing.assert_allclose(sound.samples, by_ffmpeg(path, "mono")[0], atol=1e-6)


def test_each_channel_of_5_1_counts_as_itu_says():
    side = 0.5**0.5
    wanted = np.array([[1, 0], [0, 1], [side, side], [0, 0], [side, 0], [0, side]]) / (1 + 2 * side)
    np.testing.assert_allclose(downmix(av.AudioLayout("5.1")).weights, wanted, atol=1e-7)


def test_channels_without_places_are_those_of_their_number(tmp_path):
    samples = np.random.default_rng(2).uniform(-0.5, 0.5, (8000, 6)).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", samples, 16000, subtype="FLOAT")
    sound = read_audio(tmp_path / "a.wav")
    np.testing.assert_allclose(sound.native, samples @ downmix(av.AudioLayout("5.1")).weights, atol=1e-6)
    assert said(sound) == ["its 6 channels, taken for 5.1, are mixed down to stereo"]
    soundfile.write(tmp_path / "b.wav", np.tile(samples, 2), 16000, subtype="FLOAT")
    sound = read_audio(tmp_path / "b.wav")
    np.testing.assert_allclose(sound.native[:, 0], samples.mean(axis=1), atol=1e-6)
    assert said(sound) == ["its 12 channels have no places that are known; their mean is taken"]


@pytest.mark.parametrize(
    ("layout", "family", "gains"),
    [("7.1", "1", downmix(av.AudioLayout("7.1")).weights.sum(axis=0)), ("12 channels", "255", [0.5417])],
)
def test_more_channels_than_pyav_counts(tmp_path, layout, family, gains):
    """Eight and more planes of a frame can end the program: PyAV reads behind the last."""
    samples = np.repeat(tone(1.0, 48000)[:, None], av.AudioLayout(layout).nb_channels, axis=1)
    if len(gains) == 1:
        samples *= np.linspace(1 / 12, 1, 12, dtype=np.float32)
    path = write_sound(tmp_path / "a.mka", samples, 48000, "libopus", layout, codec_options={"mapping_family": family})
    sound = read_audio(path)
    assert sound.native.shape == (48000, len(gains))
    for found, gain in zip(sound.native.T, gains):
        assert decibels(found) == pytest.approx(decibels(tone(1.0, 48000) * gain), abs=0.1)


def test_a_voice_in_one_channel_of_two_is_halved_as_ffmpeg_does(tmp_path):
    samples = np.stack([tone(1.0, 16000), np.zeros(16000, np.float32)], axis=1)
    path = write_sound(tmp_path / "a.wav", samples, 16000, "pcm_s16le")
    sound = read_audio(path)
    np.testing.assert_allclose(sound.samples, by_ffmpeg(path, "mono")[0], atol=1e-6)
    assert np.abs(sound.samples).max() == pytest.approx(0.2, abs=1e-3)


def test_channels_that_change_on_the_way(tmp_path):
    """As broadcasts do; mono goes on in both channels."""
    mono, stereo = tone(1.0, RATE)[:, None], np.stack([tone(1.0, RATE), tone(1.0, RATE, 700)], axis=1)
    first = write_sound(tmp_path / "a.aac", stereo, RATE, "aac")
    second = write_sound(tmp_path / "b.aac", mono, RATE, "aac")
    (tmp_path / "c.aac").write_bytes(first.read_bytes() + second.read_bytes())
    sound = read_audio(tmp_path / "c.aac")
    assert sound.native.shape == (2 * 44 * 1024 + 2 * 1024, 2)
    assert said(sound) == ["goes from 2 to 1 channels on the way; the first number is kept"]
    later = sound.native[60 * 1024 : 80 * 1024]
    np.testing.assert_array_equal(later[:, 0], later[:, 1])
    assert decibels(later) == pytest.approx(decibels(mono), abs=0.1)


@pytest.mark.parametrize("value", [1e30, -1e30, 5e9])
def test_values_that_are_no_sound_are_refused(tmp_path, value):
    samples = tone(1.0, 16000)
    samples[8000] = value
    soundfile.write(tmp_path / "a.wav", samples, 16000, subtype="FLOAT")
    with pytest.raises(UserError, match=r"a.wav: holds values above 2e\+09, at 0.50 s; save it again"):
        read_audio(tmp_path / "a.wav")


@pytest.mark.parametrize("value", [1e300, np.inf, np.nan])
def test_doubles_that_are_no_numbers_are_refused(tmp_path, value):
    samples = tone(1.0, 16000).astype(np.float64)
    samples[8000] = value
    soundfile.write(tmp_path / "a.wav", samples, 16000, subtype="DOUBLE")
    with pytest.raises(UserError, match=r"a.wav: holds values that are no numbers, at 0.50 s; save it again"):
        read_audio(tmp_path / "a.wav")


@pytest.mark.parametrize(("peak", "down"), [(32767.0, "90.3"), (4.0, "12.0")])
def test_floats_beyond_full_scale_are_turned_down(tmp_path, peak, down):
    """16-bit integers written as floats, and what recorders with headroom write."""
    samples = tone(1.0, 16000, 500, peak=1.0)
    soundfile.write(tmp_path / "a.wav", samples * peak, 16000, subtype="FLOAT")
    sound = read_audio(tmp_path / "a.wav")
    np.testing.assert_allclose(sound.native[:, 0], samples / np.abs(samples).max(), atol=1e-6)
    [notice] = said(sound)
    assert notice == f"goes up to {peak:.4g} where 1 is full scale; turned down by {down} dB"


def test_a_little_beyond_full_scale_stays(tmp_path):
    samples = tone(1.0, 16000, peak=1.5)
    soundfile.write(tmp_path / "a.wav", samples, 16000, subtype="FLOAT")
    sound = read_audio(tmp_path / "a.wav")
    np.testing.assert_array_equal(sound.native[:, 0], samples)
    assert sound.notices == ()


@pytest.mark.parametrize(
    ("codec", "error"), [("pcm_s24le", 1e-6), ("pcm_s32le", 1e-7), ("pcm_f64le", 1e-7), ("pcm_alaw", 0.02)]
)
def test_kinds_of_wav(tmp_path, codec, error):
    samples = tone(0.5, 16000)
    path = write_sound(tmp_path / "a.wav", samples[:, None], 16000, codec)
    sound = read_audio(path)
    np.testing.assert_allclose(sound.native[:, 0], samples, atol=error)
    assert sound.notices == ()


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 32000, 48000, 96000, 192000])
def test_rates(tmp_path, rate):
    path = write_sound(tmp_path / "a.wav", pulses(1.0, rate)[:, None], rate, "pcm_s16le")
    sound = read_audio(path)
    assert len(sound.samples) == 16000 and abs(offset(sound.samples, pulses(1.0, 16000))) <= 1


# Where


def _with_gap(rate: int) -> tuple[np.ndarray, float]:
    """Pulses, the last second of them a second late; and when the gap begins."""
    begin = PACKETS * 1024
    samples = pulses(2.0, rate)
    return np.concatenate([samples[:begin], np.zeros(rate, np.float32), samples[begin:]]), begin / rate


@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.m4a", "aac"), ("a.mp4", "aac"), ("a.mka", "pcm_f32le"), ("a.nut", "pcm_s16le"), ("a.ts", "aac")],
)
def test_a_gap_between_packets_is_silence(tmp_path, name, codec):
    """A second that was closed: all after it was a second early."""
    wanted, begin = _with_gap(RATE)
    samples = pulses(2.0, RATE)[:, None]
    path = write_sound(tmp_path / name, samples, RATE, codec, gaps=[(begin, 1.0)])
    sound = read_audio(path)
    behind = slice(PACKETS * 1024 + RATE + 2048, 3 * RATE)
    priming = {"a.ts": 1024}.get(name, 0)  # it is there to be heard; in mp4 it is marked
    milliseconds = {"a.mka": 23}.get(name, 0)  # the container's times are rounded
    late = offset(sound.native[priming:][behind, 0], wanted[behind])
    assert abs(late) <= 1 + milliseconds
    assert len(sound.native) - priming == pytest.approx(3 * RATE, abs=1100)
    [notice] = said(sound)
    assert notice.startswith("has gaps of 1.00 s in all, the first at 0.9") and notice.endswith("they become silence")


@pytest.mark.parametrize(
    ("name", "codec", "rate"), [("a.mp4", "aac", RATE), ("a.mka", "libopus", 48000), ("a.mkv", "pcm_f32le", RATE)]
)
@pytest.mark.parametrize("by", [0.5, -0.02])
def test_every_packet_is_where_its_time_says(tmp_path, name, codec, rate, by):
    """Within a sample of the packets' times behind a gap, or an overlap; in milliseconds within their rounding."""
    path = write_sound(tmp_path / name, pulses(2.0, rate)[:, None], rate, codec, gaps=[(1.0, by)])
    sound = open_sound(path)
    found = np.concatenate(list(sound.native()))[:, 0]
    with av.open(str(path)) as container:
        frames = [(frame.time, frame.to_ndarray().ravel()) for frame in container.decode(audio=0)]
    start = frames[0][0]
    behind = [(time, block) for time, block in frames if time - start > 1.2 + abs(by) and np.abs(block).max() > 0.1]
    assert behind
    unit = 0 if name == "a.mp4" else rate // 1000
    for time, block in behind:
        at = round((time - start) * rate)
        around = found[at - unit - 1 : at + len(block) + unit + 1]
        errors = [np.abs(around[shift : shift + len(block)] - block).max() for shift in range(2 * unit + 3)]
        assert min(errors) < 1e-6


@pytest.mark.parametrize("jitter", [0.004, 0.009])
def test_jitter_of_times_is_no_gap(tmp_path, jitter):
    """Phones and browsers write such times; nothing is put in or left out."""
    samples = pulses(2.0, RATE)[:, None]
    gaps = [(0.5, jitter), (0.8, -jitter), (1.2, jitter), (1.5, -jitter)]
    sound = read_audio(write_sound(tmp_path / "a.nut", samples, RATE, "pcm_f32le", gaps=gaps))
    np.testing.assert_array_equal(sound.native, samples)
    assert sound.notices == ()


def test_a_lost_packet_is_silence(tmp_path):
    path = write_sound(tmp_path / "a.mka", pulses(2.0, 48000)[:, None], 48000, "libopus", gaps=[(1.0, 0.02)])
    assert len(read_audio(path).native) == pytest.approx(2.02 * 48000, abs=48)


def test_chained_ogg_is_heard_whole(tmp_path):
    """Two recordings in one file: the second one's clock begins at 0 again."""
    one = write_sound(tmp_path / "a.ogg", tone(2.0, 48000)[:, None], 48000, "libopus").read_bytes()
    two = write_sound(tmp_path / "b.ogg", tone(1.5, 48000, 880)[:, None], 48000, "libopus").read_bytes()
    (tmp_path / "c.ogg").write_bytes(one + two)
    sound = read_audio(tmp_path / "c.ogg")
    assert len(sound.native) == pytest.approx(3.5 * 48000, abs=960)
    assert said(sound) == ["its clock jumps once; what comes then is taken to follow on"]


def test_a_clock_that_jumps_far_ahead_is_taken_to_follow_on(tmp_path):
    samples = pulses(3.0, RATE)[:, None]
    sound = read_audio(write_sound(tmp_path / "a.nut", samples, RATE, "pcm_f32le", gaps=[(2.0, 1000.0)]))
    np.testing.assert_array_equal(sound.native, samples)
    assert said(sound) == ["its clock jumps once; what comes then is taken to follow on"]


def test_a_clock_that_jumps_back_is_taken_to_follow_on(tmp_path):
    """Two broadcasts in one file."""
    path = write_sound(tmp_path / "a.ts", pulses(2.0, RATE)[:, None], RATE, "aac")
    once = read_audio(path).native
    path.write_bytes(2 * path.read_bytes())
    sound = read_audio(path)
    np.testing.assert_array_equal(sound.native[: len(once)], once)
    assert len(sound.native) == 2 * len(once)
    assert said(sound) == ["its clock jumps once; what comes then is taken to follow on"]


@pytest.mark.parametrize(
    ("name", "codec", "rate"),
    [("a.mp3", "libmp3lame", 44100), ("a.m4a", "aac", 44100), ("a.mp4", "aac", 48000)]
    + [("a.ogg", "libopus", 48000), ("a.webm", "libopus", 48000), ("a.mka", "aac", 48000)],
)
def test_the_encoders_delay_is_left_out(tmp_path, name, codec, rate):
    path = write_sound(tmp_path / name, pulses(2.0, rate)[:, None], rate, codec)
    sound = read_audio(path)
    assert offset(sound.native[:, 0], pulses(2.0, rate)) == 0
    assert sound.notices == ()


# Which, and since when


@pytest.fixture(scope="module")
def late(tmp_path_factory):
    """A video of three seconds whose sound begins half a second after its pictures."""
    path = tmp_path_factory.mktemp("late") / "late.mkv"
    return write_video(path, 3.0, rate=16000, sound_codec="pcm_f32le", sound_start=0.5)


def test_sound_that_begins_late_is_late(late):
    sound = read_audio(late)
    assert len(sound.native) == 3 * 16000 and not sound.native[:8000].any()
    np.testing.assert_allclose(sound.native[8000:, 0], chirp(0.5 + np.arange(40000) / 16000), atol=1e-6)
    assert said(sound) == ["its sound begins 0.50 s after its pictures; silence stands in front"]


def test_a_sound_alone_begins_with_its_first_sample(tmp_path):
    samples = pulses(2.0, RATE)[:, None]
    sound = read_audio(write_sound(tmp_path / "a.mka", samples, RATE, start=0.7))
    np.testing.assert_array_equal(sound.native, samples)
    assert sound.notices == ()


def test_one_of_several_streams_is_said(tmp_path):
    streams = [tone(1.0, 16000)[:, None], tone(1.0, 16000, 800)[:, None]]
    path = write_sound(tmp_path / "a.mka", streams, 16000, languages=("eng", "deu"))
    sound = read_audio(path)
    np.testing.assert_array_equal(sound.native, streams[0])
    assert said(sound) == ["has 2 sound streams; number 1 (eng) is used"]


def test_a_video_without_sound(tmp_path):
    path = write_video(tmp_path / "mute.mp4", 1.0, sound=None)
    with pytest.raises(UserError, match=r"mute.mp4: has no sound; give a file with sound in it"):
        read_audio(path)


def test_a_cover_is_no_film(tmp_path):
    """Pictures of m4a and mp3 have times of their own."""
    path = write_sound(tmp_path / "a.m4a", pulses(1.0, RATE)[:, None], RATE, "aac")
    assert read_audio(path).native.shape == (RATE, 1)


def test_a_long_gap_takes_no_memory(tmp_path):
    import tracemalloc

    path = write_sound(tmp_path / "a.nut", tone(2.0, 8000)[:, None], 8000, "pcm_s16le", gaps=[(1.0, 500.0)])
    tracemalloc.start()
    sound = open_sound(path)
    length = sum(len(block) for block in sound.mono(16000))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert sound.duration == pytest.approx(502, abs=0.01) and length == pytest.approx(502 * 16000, abs=160)
    assert most < 20e6


def test_the_same_file_twice_is_the_videos_own_sound(late, tmp_path):
    copy = shutil.copy(late, tmp_path / "copy.mkv")
    own = open_sound(late, since=0.0)
    for path in (late, copy):
        other = open_sound(path)
        np.testing.assert_array_equal(np.concatenate(list(other.native())), np.concatenate(list(own.native())))
