"""The pictures of a video to dub, by its own clock."""

import numpy as np
import pytest

from talkverse_jax.core.errors import UserError
from talkverse_jax.media.fit import bring
from talkverse_jax.media.source_video import SourceVideo
from talkverse_jax.media.video_reader import open_video
from tests.videos import picture, read_number, write_video

SIZE = (128, 128)


def numbers(video: SourceVideo, first: int, count: int) -> list[int]:
    return [read_number(image) for image in video.read(first, count, SIZE)]


@pytest.mark.parametrize("fps", [24, 25, 30000 / 1001, 30, 50])
def test_picture_k_is_the_one_shown_k_25ths_after_the_first(tmp_path, fps):
    video = SourceVideo(write_video(tmp_path / "a.mp4", 3.0, fps))
    assert video.frames == round(25 * round(3 * fps) / fps)
    shown = [int(np.floor(k / 25 * fps + 1e-3)) for k in range(20, 45)]
    assert numbers(video, 20, 25) == shown


def test_a_variable_rate_and_a_late_start(tmp_path):
    times = [0, 0.1, 0.5, 0.52, 1.0, 1.9]
    path = write_video(tmp_path / "a.mkv", 2.0, times=times, video_start=0.7)
    video = SourceVideo(path)
    assert video.start == pytest.approx(0.7, abs=1e-3)
    assert video.frames in (49, 50)  # the file does not say how long its last picture is shown
    expected = [np.searchsorted(times, k / 25 + 1e-3, side="right") - 1 for k in range(49)]
    assert numbers(video, 0, 49) == expected


def test_in_front_is_the_first_picture_and_behind_the_last_or_all_again(tmp_path):
    path = write_video(tmp_path / "a.mp4", 0.4)
    assert numbers(SourceVideo(path), -3, 16) == [0, 0, 0, *range(10), 9, 9, 9]
    assert numbers(SourceVideo(path, "loop"), 6, 16) == [*range(6, 10), *range(10), 0, 1]


def test_pictures_are_turned_and_brought_to_size_as_single_ones_are(tmp_path):
    path = write_video(tmp_path / "a.mp4", 1.0, size=(96, 160), rotation=90, sound=None)
    for how in ("pad", "crop"):
        video = SourceVideo(path, fit=how)
        assert (video.height, video.width) == (160, 96)
        [shown] = video.read(5, 1, (160, 128))
        expected = bring(np.rot90(picture(5, (96, 160))), (160, 128), how)
        assert np.abs(shown.astype(int) - expected).mean() < 4


def test_cropped_pictures_are_those_of_training(tmp_path):
    """Of a phone's video, 180x320, whose sides come out as no integers: the same pixels as the reader's own."""
    path = write_video(tmp_path / "phone.mp4", 0.4, size=(320, 180), sound=None)
    with open_video(str(path), sound=False) as video:
        expected = video.pictures([0.0, 0.04, 0.08], (832, 448))
    np.testing.assert_array_equal(SourceVideo(path, fit="crop").read(0, 3, (832, 448)), expected)


def test_what_cannot_be_dubbed_is_one_line(tmp_path):
    with pytest.raises(UserError, match="none.mp4: no such file"):
        SourceVideo(tmp_path / "none.mp4")
    whole = write_video(tmp_path / "a.mp4", 2.0, options={"movflags": "faststart"}).read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="cut.mp4: cannot be dubbed: .*; convert the video first"):
        video = SourceVideo(tmp_path / "cut.mp4")
        video.read(0, video.frames, SIZE)
    with pytest.raises(UserError, match="16x16 pixels; the short side needs 32"):
        SourceVideo(write_video(tmp_path / "small.mp4", 1.0, size=(16, 16)))


@pytest.mark.parametrize("fps", [24, 30000 / 1001, 50])
def test_frames_by_number_whatever_the_rate(tmp_path, fps):
    video = SourceVideo(write_video(tmp_path / "a.mp4", 1.0, fps), order="frames")
    assert video.frames == round(fps)
    assert numbers(video, 0, video.frames + 2) == [*range(video.frames), *[video.frames - 1] * 2]


def test_frames_by_number_of_a_variable_rate_and_a_late_start(tmp_path):
    path = write_video(tmp_path / "a.mkv", 2.0, times=[0, 0.1, 0.5, 0.52, 1.0, 1.9], video_start=0.7)
    assert numbers(SourceVideo(path, order="frames"), 0, 7) == [0, 1, 2, 3, 4, 5, 5]
