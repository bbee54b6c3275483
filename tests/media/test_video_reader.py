from fractions import Fraction

import av
import librosa
import numpy as np
import pytest
from etils.epath.testing import mock_epath

from talkverse_jax.media.bad_sample import BadSample
from talkverse_jax.media.video_reader import open_video
from tests.videos import chirp, read_number, silence, write_video

SIZE = (128, 128)
UNEVEN = [0, *np.sort(np.random.default_rng(0).uniform(0.05, 3.9, 70))]
SOURCES = {
    "25.mp4": {},
    "30.mp4": {"fps": 30},
    "24.mp4": {"fps": 24},
    "50.mp4": {"fps": 50},
    "ntsc.mov": {"fps": Fraction(30000, 1001)},
    "milliseconds.mkv": {"fps": 24},
    "uneven.mp4": {"times": UNEVEN},
    "late.mp4": {"fps": 30, "video_start": 0.2},
}


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Each source, four seconds of it: its path, and when its frames are shown."""
    folder = tmp_path_factory.mktemp("videos")
    made = {}
    for name, options in SOURCES.items():
        path = write_video(folder / name, 4.0, **options)
        times = options.get("times", np.arange(round(4 * options.get("fps", 25))) / float(options.get("fps", 25)))
        made[name] = str(path), np.asarray(times, float)
    return made


@pytest.mark.parametrize("name", SOURCES)
@pytest.mark.parametrize("first", [0, 37, 60])
def test_the_pictures_are_those_shown_at_25_fps(videos, name, first):
    path, times = videos[name]
    numbers = np.arange(first, first + 30)
    shown = np.searchsorted(times, numbers / 25 + 6e-4, side="right") - 1
    with open_video(path) as video:
        start = video.probe().start
        pictures = video.pictures(start + numbers / 25, SIZE)
    assert [read_number(picture) for picture in pictures] == list(shown)


@pytest.mark.parametrize("name", SOURCES)
def test_all_frames_that_the_probe_promises_are_there(videos, name):
    path, times = videos[name]
    with open_video(path) as video:
        probe = video.probe()
        [last] = video.pictures([probe.start + (probe.frames - 1) / 25], SIZE)
    assert abs(probe.frames - 100) <= (2 if name == "uneven.mp4" else 0)
    assert probe.start == pytest.approx(0.2 if name == "late.mp4" else 0, abs=1e-3)
    assert (probe.height, probe.width) == SIZE
    assert read_number(last) == np.searchsorted(times, (probe.frames - 1) / 25 + 6e-4, side="right") - 1


def test_only_what_is_needed_is_decoded(videos):
    path, _ = videos["25.mp4"]  # a keyframe every 12 frames
    with open_video(path) as video:
        video.pictures(np.arange(50, 60) / 25, SIZE)
        assert video.decoded == 60 - 48 + 1
    with open_video(path) as video:
        video.probe()
        assert video.decoded == 1


def test_scaled_to_cover_and_cropped(tmp_path):
    path = write_video(tmp_path / "wide.mp4", 1.0, size=(96, 160))
    with open_video(str(path)) as video:
        [picture] = video.pictures([10 / 25], (160, 128))
    assert picture.shape == (160, 128, 3)
    assert read_number(picture, (96, 160)) == 10


@pytest.mark.parametrize("rotation", [90, 180, -90])
def test_a_turned_video_is_shown_upright(tmp_path, rotation):
    path = write_video(tmp_path / "turned.mp4", 1.0, size=(96, 160), rotation=rotation)
    with open_video(str(path)) as video:
        probe = video.probe()
        size = (probe.height, probe.width)
        pictures = video.pictures(np.arange(5, 9) / 25, size)
    assert size == ((96, 160) if rotation == 180 else (160, 96))
    stored = np.rot90(pictures, -rotation // 90, axes=(1, 2))
    assert [read_number(picture) for picture in stored] == [5, 6, 7, 8]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.mp4", {"rate": 44100}),
        ("b.mp4", {"rate": 48000}),
        ("c.mov", {"rate": 16000, "sound_codec": "pcm_f32le"}),
        ("d.mov", {"rate": 22050, "sound_codec": "pcm_f32le"}),
    ],
)
@pytest.mark.parametrize("first", [0, 40, 65])
def test_the_sound_is_that_stretch_of_the_whole(tmp_path, name, options, first):
    path = write_video(tmp_path / name, 4.0, **options)
    with open_video(str(path)) as video:
        cut = video.sound(first / 25, 34 * 640)
    with av.open(str(path)) as container:
        whole = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])
    whole = librosa.resample(whole, orig_sr=options["rate"], target_sr=16000)[first * 640 :][: 34 * 640]
    assert cut.dtype == np.float32
    np.testing.assert_allclose(cut, whole, atol=1e-3)
    settled = np.arange(2500, 34 * 640)  # AAC blurs the very beginning
    np.testing.assert_allclose(cut[2500:], chirp(first / 25 + settled / 16000), atol=5e-3)


def test_the_sound_has_its_own_clock(videos):
    path, _ = videos["late.mp4"]
    with open_video(path) as video:
        start = video.probe().start
        sound = video.sound(start + 1.0, 16000)
    np.testing.assert_allclose(sound, chirp(1.2 + np.arange(16000) / 16000), atol=5e-3)


def test_where_the_sound_is_over_there_are_zeros(tmp_path):
    path = write_video(tmp_path / "short.mov", 4.0, sound_seconds=2.0, sound_codec="pcm_f32le")
    with open_video(str(path)) as video:
        sound = video.sound(1.5, 16000)
        with pytest.raises(BadSample, match="silent window"):
            video.sound(2.5, 16000)
    np.testing.assert_allclose(sound[:7900], chirp(1.5 + np.arange(7900) / 16000), atol=1e-2)
    assert np.abs(sound[8100:]).max() < 1e-2


def test_a_gap_in_the_sound_is_silence(tmp_path):
    """In a window that begins before it, and in one behind it."""
    path = write_video(tmp_path / "gap.mkv", 4.0, rate=16000, sound_codec="pcm_f32le", sound_gap=(1.5, 2.25))
    for start in (1.0, 2.5):
        with open_video(str(path)) as video:
            sound = video.sound(start, 16000)
        times = start + np.arange(16000) / 16000
        settled = (np.abs(times - 1.5) > 0.1) & (np.abs(times - 2.25) > 0.1)
        wanted = np.where((times > 1.5) & (times < 2.25), 0, chirp(times))
        np.testing.assert_allclose(sound[settled], wanted[settled], atol=2e-2)


def test_surround_is_heard_as_loud_as_it_is_mixed(tmp_path):
    """Where all channels have the same, the coefficients divided by their sum leave it as it is."""
    path = write_video(tmp_path / "a.mov", 2.0, layout="5.1", sound_codec="pcm_f32le")
    with open_video(str(path)) as video:
        sound, notes = video.sound(0.5, 16000), video.sound_notes()
    np.testing.assert_allclose(sound, chirp(0.5 + np.arange(16000) / 16000), atol=2e-2)
    assert notes == ("its 5.1 sound is mixed down to stereo",)


def cut_short(path, share):
    data = path.read_bytes()
    path.write_bytes(data[: round(len(data) * share)])


def fault(path, read=lambda video: video.probe()):
    with pytest.raises(BadSample) as caught, open_video(str(path)) as video:
        read(video)
    return caught.value.reason


def test_faults_of_files(tmp_path):
    assert fault(tmp_path / "none.mp4") == "no such file"
    (tmp_path / "text.mp4").write_text("this is no video\n" * 100)
    assert fault(tmp_path / "text.mp4") == "cannot be read"
    (tmp_path / "empty.mp4").touch()
    assert fault(tmp_path / "empty.mp4") == "cannot be read"
    assert fault(write_video(tmp_path / "mute.mp4", 1.0, sound=None)) == "no sound"
    headless = write_video(tmp_path / "headless.mp4", 1.0)
    cut_short(headless, 0.6)  # its index was at the end
    assert fault(headless) == "cannot be read"


def test_a_file_without_pictures(tmp_path):
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=16000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        frame.sample_rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    assert fault(tmp_path / "sound.mp4") == "no video"


def test_a_truncated_file(tmp_path):
    path = write_video(tmp_path / "cut.mp4", 4.0, options={"movflags": "faststart"})
    cut_short(path, 0.6)
    assert fault(path) == "cut short"
    assert fault(path, lambda video: video.pictures(np.arange(40, 80) / 25, SIZE)) == "cut short"
    with open_video(str(path)) as video:  # what is there can be read
        pictures = video.pictures(np.arange(10, 30) / 25, SIZE)
    assert [read_number(picture) for picture in pictures] == list(range(10, 30))


def test_damage_in_the_middle(tmp_path):
    path = write_video(tmp_path / "damaged.mp4", 4.0)
    with av.open(str(path)) as container:
        packet = next(packet for packet in container.demux(video=0) if packet.is_keyframe and packet.pts > 90_000)
        begin, second = packet.pos, packet.pts / 90_000
    data = bytearray(path.read_bytes())
    data[begin : begin + packet.size] = np.random.default_rng(0).bytes(packet.size)
    path.write_bytes(data)
    assert fault(path, lambda video: video.pictures(second + np.arange(-10, 10) / 25, SIZE)) == "damaged"
    with open_video(str(path)) as video:
        pictures = video.pictures(np.arange(70, 90) / 25, SIZE)
    assert [read_number(picture) for picture in pictures] == list(range(70, 90))


def test_sound_that_is_no_sound(tmp_path):
    def broken(times):
        return np.where((times > 2) & (times < 2.1), np.nan, chirp(times))

    path = write_video(tmp_path / "nan.mov", 4.0, sound=broken, sound_codec="pcm_f32le")
    assert fault(path, lambda video: video.sound(1.5, 16000)) == "sound not finite"
    with open_video(str(path)) as video:  # beside it the sound is fine
        np.testing.assert_allclose(video.sound(0.5, 16000), chirp(0.5 + np.arange(16000) / 16000), atol=1e-3)
    path = write_video(tmp_path / "silent.mp4", 2.0, sound=silence)
    assert fault(path, lambda video: video.sound(0.5, 16000)) == "silent window"


def test_a_video_in_a_bucket(tmp_path):
    path = write_video(tmp_path / "here.mp4", 2.0)

    def local(name):
        return path if str(name) == "gs://bucket/there.mp4" else tmp_path / "none"

    with mock_epath(
        open=lambda original, name, mode: original(local(name), mode),
        exists=lambda original, name: original(local(name)),
    ):
        with open_video("gs://bucket/there.mp4") as video:
            assert video.probe().frames == 50
            [picture] = video.pictures([1.0], SIZE)
            sound = video.sound(0.5, 8000)
        assert fault("gs://bucket/other.mp4") == "no such file"
    assert read_number(picture) == 25
    np.testing.assert_allclose(sound, chirp(0.5 + np.arange(8000) / 16000), atol=5e-3)
