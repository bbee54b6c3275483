import os
import signal
import subprocess
import sys
import textwrap

import av
import numpy as np
import pytest
from PIL import Image

from talkverse_jax.core.errors import UserError
from talkverse_jax.media import video_writer
from talkverse_jax.media.media import open_media
from talkverse_jax.media.screen import video_frames
from talkverse_jax.media.video_writer import VideoWriter, check_output

HEIGHT, WIDTH, FRAMES = 96, 128, 12


def _clips(count=3):
    rng = np.random.default_rng(0)
    for _ in range(count):
        small = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
        picture = np.asarray(small.resize((WIDTH, HEIGHT), Image.BICUBIC))
        yield np.stack([np.roll(picture, shift, axis=1) for shift in range(FRAMES)])


def _beep(seconds, rate, onset, channels=1):
    """A tone that starts at full swing at `onset` seconds."""
    t = np.arange(round(seconds * rate)) / rate
    tone = 0.5 * np.cos(2 * np.pi * 440 * (t - onset)) * (t >= onset)
    return np.repeat(tone[:, None], channels, axis=1).astype(np.float32)


def _write(path, sound, rate, **options):
    with VideoWriter(path, width=WIDTH, height=HEIGHT, sound=[sound], rate=rate, **options) as writer:
        for clip in _clips():
            writer.write(clip)
    return writer


def _frames(path):
    with open_media(path, "a video") as container:
        return [picture for _, picture in video_frames(container)]


def _sound(path):
    """Decoded samples and their rate."""
    with av.open(str(path)) as container:
        parts = [frame.to_ndarray() for frame in container.decode(audio=0)]
        return np.concatenate(parts, axis=1), container.streams.audio[0].rate


def _onset(path):
    samples, rate = _sound(path)
    return np.argmax(np.abs(samples[0]) > 0.2) / rate


def test_frames_come_back(tmp_path):
    path = tmp_path / "new" / "out.mp4"  # the folder is made
    writer = _write(path, _beep(3, 48000, 0), 48000, metadata={"title": "A talk", "comment": '{"seed": 1}'})
    assert writer.frames == 3 * FRAMES and os.listdir(path.parent) == ["out.mp4"]
    written, read = np.concatenate(list(_clips())), np.stack(_frames(path))
    assert read.shape == written.shape
    error = read.astype(float) - written
    assert np.abs(error).mean() < 4 and np.abs(error.mean(axis=(0, 1, 2))).max() < 1
    with av.open(str(path)) as container:
        video, audio = container.streams.video[0], container.streams.audio[0]
        assert (video.codec_context.name, video.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert (video.average_rate, video.frames, audio.codec_context.name) == (25, 3 * FRAMES, "aac")
        assert container.metadata["title"] == "A talk" and container.metadata["comment"] == '{"seed": 1}'


def test_colours_play_right(tmp_path):
    """Converted as BT.709 of limited range, and tagged so."""
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0), (200, 150, 120)]
    clip = np.stack([np.broadcast_to(np.uint8(colour), (HEIGHT, WIDTH, 3)) for colour in colours])
    path = tmp_path / "out.mp4"
    with VideoWriter(path, width=WIDTH, height=HEIGHT, sound=[_beep(1, 48000, 0)], rate=48000) as writer:
        writer.write(clip)
    for picture, colour in zip(_frames(path), colours):
        np.testing.assert_allclose(picture.reshape(-1, 3).mean(0), colour, atol=4)
    with av.open(str(path)) as container:
        context = container.streams.video[0].codec_context
        tags = (context.colorspace, context.color_primaries, context.color_trc, context.color_range)
        assert tags == (1, 1, 1, 1)


def test_an_ordinary_mp4_with_its_index_in_front(tmp_path):
    _write(tmp_path / "out.mp4", _beep(3, 48000, 0), 48000)
    data = (tmp_path / "out.mp4").read_bytes()
    assert 0 < data.find(b"moov") < data.find(b"mdat") and b"moof" not in data


def test_every_clip_starts_with_a_keyframe_in_the_order_of_showing(tmp_path):
    _write(tmp_path / "out.mp4", _beep(3, 48000, 0), 48000)
    with av.open(str(tmp_path / "out.mp4")) as container:
        packets = [packet for packet in container.demux(video=0) if packet.pts is not None]
    assert all(packet.pts == packet.dts for packet in packets)
    assert {0, FRAMES, 2 * FRAMES} <= {index for index, packet in enumerate(packets) if packet.is_keyframe}


def test_keyframes_do_not_twitch(tmp_path):
    """A slow pan: nowhere are neighbours much less alike than elsewhere, neither at two seconds nor between clips."""
    rng = np.random.default_rng(0)
    smooth = Image.Resampling.BICUBIC
    wide = Image.fromarray(rng.integers(0, 256, (24, 40, 3), dtype=np.uint8)).resize((512, 96), smooth)
    panned = [wide.transform((96, 64), Image.Transform.AFFINE, (1, 0, t / 6, 0, 1, 0), smooth) for t in range(112)]
    frames = np.stack([np.asarray(picture) for picture in panned])
    with VideoWriter(tmp_path / "out.mp4", width=96, height=64, sound=[_beep(5, 48000, 0)], rate=48000) as writer:
        writer.write(frames[:56])
        writer.write(frames[56:])
    read = np.stack(_frames(tmp_path / "out.mp4")).astype(np.float32)
    steps = np.abs(np.diff(read, axis=0)).mean((1, 2, 3))
    assert steps[[49, 55, 105]].max() < 1.3 * np.median(steps)


@pytest.mark.parametrize("rate, channels", [(8000, 1), (16000, 1), (44100, 2), (48000, 1), (96000, 2)])
def test_sound_starts_when_it_should(tmp_path, rate, channels):
    _write(tmp_path / "out.mp4", _beep(3, rate, 0.81, channels), rate)
    assert _onset(tmp_path / "out.mp4") == pytest.approx(0.81, abs=1e-3)
    assert len(_sound(tmp_path / "out.mp4")[0]) == channels


def test_sound_in_front_is_left_out(tmp_path):
    _write(tmp_path / "out.mp4", _beep(3, 16000, 0.81), 16000, audio_start=0.32)
    assert _onset(tmp_path / "out.mp4") == pytest.approx(0.49, abs=1e-3)


@pytest.mark.parametrize("seconds, expected", [(3.0, 1.44), (1.2345, 1.2345), (0.5, 0.5)])
def test_sound_ends_with_itself_or_the_video(tmp_path, seconds, expected):
    _write(tmp_path / "out.mp4", _beep(seconds, 48000, 0), 48000)
    with av.open(str(tmp_path / "out.mp4")) as container:
        video, audio = container.streams.video[0], container.streams.audio[0]
        assert video.duration * video.time_base == pytest.approx(1.44)
        assert float(audio.duration * audio.time_base) == pytest.approx(expected, abs=1e-4)


def test_finished_clips_play_after_a_kill(tmp_path):
    """SIGKILL while the third clip is written."""
    child = """
        import sys
        import numpy as np
        from talkverse_jax.media.video_writer import VideoWriter
        t = np.arange(20 * 44100) / 44100
        sound = (0.5 * np.cos(2 * np.pi * 440 * (t - 0.81)) * (t >= 0.81)).astype(np.float32)[:, None]
        writer = VideoWriter(sys.argv[1], width=128, height=96, sound=[sound], rate=44100)
        clip = np.zeros((12, 96, 128, 3), np.uint8)
        writer.write(clip + 50)
        writer.write(clip + 200)
        print("two clips", flush=True)
        writer.write(np.random.default_rng(0).integers(0, 256, (2000, 96, 128, 3), dtype=np.uint8))
    """
    command = [sys.executable, "-c", textwrap.dedent(child), str(tmp_path / "out.mp4")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "two clips\n"
        process.kill()
    assert process.returncode == -signal.SIGKILL
    assert os.listdir(tmp_path) == ["out.partial.mp4"]
    frames = _frames(tmp_path / "out.partial.mp4")
    assert len(frames) >= 24
    assert [frame.mean() for frame in frames[:24]] == pytest.approx([50] * 12 + [200] * 12, abs=2)
    samples, rate = _sound(tmp_path / "out.partial.mp4")
    assert samples.shape[1] / rate >= 0.96
    assert _onset(tmp_path / "out.partial.mp4") == pytest.approx(0.81, abs=1e-3)


@pytest.mark.parametrize("lengths", [(16, 45, 54, 3), (8, 13, 4, 9), (1, 1, 1)])
def test_a_clip_of_any_length_is_on_the_disk_at_once(tmp_path, lengths):
    sound = _beep(2, 44100, 0)
    with VideoWriter(tmp_path / "out.mp4", width=32, height=32, sound=[sound], rate=44100) as writer:
        for length in lengths:
            writer.write(np.zeros((length, 32, 32, 3), np.uint8))
            (tmp_path / "copy.mp4").write_bytes(writer.partial.read_bytes())
            assert len(_frames(tmp_path / "copy.mp4")) == writer.frames
    assert len(_frames(tmp_path / "out.mp4")) == sum(lengths)


def test_an_error_keeps_the_clips_and_the_old_file(tmp_path):
    (tmp_path / "out.mp4").write_bytes(b"from before")
    sound = _beep(3, 48000, 0)
    with (
        pytest.raises(KeyboardInterrupt),
        VideoWriter(tmp_path / "out.mp4", width=WIDTH, height=HEIGHT, sound=[sound], rate=48000) as writer,
    ):
        writer.write(next(_clips()))
        raise KeyboardInterrupt
    assert (tmp_path / "out.mp4").read_bytes() == b"from before"
    assert len(_frames(tmp_path / "out.partial.mp4")) == FRAMES


def test_an_error_before_the_first_clip_leaves_nothing(tmp_path):
    with (
        pytest.raises(KeyError),
        VideoWriter(tmp_path / "out.mp4", width=32, height=32, sound=[_beep(1, 48000, 0)], rate=48000),
    ):
        raise KeyError
    assert not os.listdir(tmp_path)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs the device that is always full")
@pytest.mark.parametrize("stage, kept", [("partial", False), ("finishing", True)])
def test_a_full_disk(tmp_path, monkeypatch, stage, kept):
    """`out.partial.mp4` is on a full disk, or the disk fills up while the finished file is made."""
    (tmp_path / "out.mp4").write_bytes(b"from before")
    full = tmp_path / f"out.{stage}.mp4"

    def clear(path):  # as it is, but what is written there then goes to a disk that is always full
        path.unlink(missing_ok=True)
        if path == full and not (tmp_path / "done").exists():
            full.symlink_to("/dev/full")
            (tmp_path / "done").touch()

    monkeypatch.setattr(video_writer, "clear", clear)
    with pytest.raises(UserError, match=r"out.mp4: cannot be written \(No space left on device\)") as error:
        _write(tmp_path / "out.mp4", _beep(3, 48000, 0), 48000)
    assert "\n" not in str(error.value)
    assert ("36 frames so far are in out.partial.mp4" in str(error.value)) == kept
    assert (tmp_path / "out.mp4").read_bytes() == b"from before"
    (tmp_path / "done").unlink()
    assert sorted(os.listdir(tmp_path)) == ["out.mp4"] + ["out.partial.mp4"] * kept
    if kept:
        assert len(_frames(tmp_path / "out.partial.mp4")) == 3 * FRAMES


def test_places_that_cannot_be_written(tmp_path):
    with pytest.raises(UserError, match="out.avi: the video is written as mp4"):
        check_output(tmp_path / "out.avi")
    (tmp_path / "folder.mp4").mkdir()
    with pytest.raises(UserError, match="folder.mp4: is a folder"):
        check_output(tmp_path / "folder.mp4")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="out.mp4: cannot be written"):
        check_output(tmp_path / "file" / "out.mp4")
    with pytest.raises(UserError, match="out.mp4: cannot be written"):
        check_output("/proc/out.mp4")


def test_checking_a_place_touches_nothing(tmp_path):
    (tmp_path / "out.partial.mp4").write_bytes(b"of a run that was killed")
    assert check_output(tmp_path / "out.mp4") == tmp_path / "out.mp4"
    assert (tmp_path / "out.partial.mp4").read_bytes() == b"of a run that was killed"


def test_wrong_frames_are_a_mistake_of_the_caller(tmp_path):
    with pytest.raises(ValueError, match="even"):
        VideoWriter(tmp_path / "a.mp4", width=33, height=32, sound=[_beep(1, 48000, 0)], rate=48000)
    with (
        pytest.raises(ValueError, match="uint8 frames"),
        VideoWriter(tmp_path / "a.mp4", width=64, height=32, sound=[_beep(1, 48000, 0)], rate=48000) as writer,
    ):
        writer.write(np.zeros((1, 64, 32, 3), np.uint8))


@pytest.mark.parametrize("rate", [44100, 16000])
@pytest.mark.parametrize("left", [2, 3], ids=["stopped behind a clip", "within the next one"])
def test_a_later_run_takes_over_what_one_has_left(tmp_path, rate, left):
    """Every byte is that of a run without a stop."""
    clips = [clip[: 8 + n] for n, clip in enumerate(_clips(4))]
    sound = [_beep(4, rate, 0)]

    def writer(name: str, **options) -> VideoWriter:
        return VideoWriter(tmp_path / name, width=WIDTH, height=HEIGHT, sound=sound, rate=rate, **options)

    with writer("whole.mp4") as whole:
        for clip in clips:
            whole.write(clip)
    with pytest.raises(RuntimeError), writer("out.mp4") as stopped:
        for clip in clips[:left]:
            stopped.write(clip)
        raise RuntimeError
    for _ in range(2):  # stopped again and again
        with pytest.raises(RuntimeError), writer("out.mp4", written=[8, 9]):
            raise RuntimeError
    with writer("out.mp4", written=[8, 9]) as resumed:
        for clip in clips[2:]:
            resumed.write(clip)
    assert (tmp_path / "out.mp4").read_bytes() == (tmp_path / "whole.mp4").read_bytes()
    assert sorted(os.listdir(tmp_path)) == ["out.mp4", "whole.mp4"]


def test_frames_that_are_not_there_cannot_be_taken_over(tmp_path):
    def writer(**options) -> VideoWriter:
        sound = dict(sound=[_beep(1, 48000, 0)], rate=48000)
        return VideoWriter(tmp_path / "out.mp4", width=WIDTH, height=HEIGHT, **sound, **options)

    with pytest.raises(RuntimeError), writer() as stopped:
        stopped.write(next(_clips())[:8])
        raise RuntimeError
    with pytest.raises(UserError, match="has 8 frames where 16 were written; leave out --resume"):
        writer(written=[8, 8])
