"""Videos as they are meant to be seen: colours, square pixels, whole frames, turned, on white."""

from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

from talkverse_jax.core.errors import UserError
from talkverse_jax.media.media import open_media
from talkverse_jax.media.screen import video_frames
from talkverse_jax.media.source_video import SourceVideo
from talkverse_jax.media.video_reader import open_video
from tests.media.short_video import write_pictures

BT601, UNSAID, BT2020 = 6, 2, 9


@pytest.fixture
def smooth():
    noise = np.random.default_rng(0).integers(40, 215, (6, 8, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(noise).resize((96, 64), Image.Resampling.BICUBIC))


def frames(path):
    with open_media(path, "a video") as container:
        return [picture for _, picture in video_frames(container)]


def notes(path):
    with open_video(str(path), sound=False) as video:
        return video.probe().notes


def error(image, expected):
    return np.abs(image.astype(float) - expected).mean()


@pytest.mark.parametrize("format", ["yuv420p", "yuv444p10le", "yuv422p12le"])
@pytest.mark.parametrize("full_range", [False, True])
@pytest.mark.parametrize("matrix", [1, BT601, UNSAID])
def test_ordinary_colours(tmp_path, smooth, format, full_range, matrix):
    """BT.709, BT.601 and what does not say, of limited and full range, of 8 to 12 bits: within 1 of 255."""
    path = write_pictures(tmp_path / "a.mkv", [smooth], format=format, matrix=matrix, full_range=full_range)
    [image] = frames(path)
    assert error(image, smooth) < (1.7 if format == "yuv420p" else 1.0)
    assert notes(path) == ()


def test_colours_that_nobody_can_tell_are_refused_by_name(tmp_path, smooth):
    """YCgCo, constant luminance, ICtCp: FFmpeg has no conversion."""
    path = write_pictures(tmp_path / "a.mkv", [smooth] * 2, matrix=14)
    with pytest.raises(UserError, match=r"a.mkv: cannot be dubbed: unusual colours \(matrix 14 of ITU-T H.273\)"):
        SourceVideo(path)
    with pytest.raises(UserError, match=r"a.mkv: unusual colours \(matrix 14 of ITU-T H.273\); convert it first"):
        frames(path)


def test_large_video_without_a_matrix_is_said(tmp_path):
    path = write_pictures(tmp_path / "a.mkv", [np.zeros((720, 1280, 3), np.uint8)], matrix=UNSAID)
    assert notes(path) == ("no colour matrix given, BT.601 assumed",)


@pytest.mark.parametrize(("aspect", "size"), [(Fraction(16, 11), (64, 140)), (Fraction(8, 9), (72, 96))])
def test_pixels_that_are_not_square(tmp_path, smooth, aspect, size):
    """96x64 pixels of 16:11 are seen as 140x64, of 8:9 as 96x72; nothing is made smaller."""
    path = write_pictures(tmp_path / "a.mp4", [smooth] * 5, codec="libx264", aspect=aspect)
    expected = Image.fromarray(smooth).resize(size[::-1], Image.Resampling.BICUBIC)
    assert error(frames(path)[2], np.asarray(expected)) < 2
    video = SourceVideo(path)
    assert (video.height, video.width) == size
    assert video.notes == (f"pixels of {aspect.numerator}:{aspect.denominator}, stretched to squares",)
    with open_video(str(path), sound=False) as opened:
        assert opened.probe().stretch == (size[0] / 64, pytest.approx(size[1] / 96, abs=0.01))


def test_turned_pixels_that_are_not_square(tmp_path, smooth):
    path = write_pictures(tmp_path / "a.mp4", [smooth] * 5, codec="libx264", aspect=Fraction(2, 1), turned=(90, False))
    with open_video(str(path), sound=False) as video:
        probe = video.probe()
    assert (probe.height, probe.width, probe.stretch) == (192, 64, (2.0, 1.0))


@pytest.mark.parametrize("aspect", [Fraction(1216, 1215), Fraction(1000, 1)])
def test_nearly_square_and_absurd_pixels_stay_as_they_are(tmp_path, smooth, aspect):
    path = write_pictures(tmp_path / "a.mp4", [smooth] * 5, codec="libx264", aspect=aspect)
    assert frames(path)[0].shape == smooth.shape and notes(path) == ()


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("degrees", [0, 90, 180, -90])
def test_turned_and_mirrored(tmp_path, smooth, degrees, mirrored):
    """Once, in the order of the display matrix: turned anticlockwise, then mirrored (as front cameras do)."""
    path = write_pictures(tmp_path / "a.mp4", [smooth], codec="libx264", turned=(degrees, mirrored))
    turned = np.rot90(smooth, degrees // 90)
    [image] = frames(path)
    assert image.shape == turned.shape
    assert error(image, turned[:, ::-1] if mirrored else turned) < 2


def combed(smooth, number):
    """What moves by 3 pixels to the right from field to field, and its two fields in one frame."""
    moved = [np.roll(smooth, 6 * number + 3 * field, axis=1) for field in (0, 1)]
    both = moved[0].copy()
    both[1::2] = moved[1][1::2]
    return moved[0], both


@pytest.mark.parametrize(("name", "codec"), [("a.mp4", "libx264"), ("a.mkv", "ffv1")])
def test_interlaced_video_is_made_whole(tmp_path, smooth, name, codec):
    """The error against the first field's moment: 6 combed, below 2 deinterlaced."""
    whole, both = zip(*(combed(smooth, number) for number in range(6)))
    path = write_pictures(tmp_path / name, both, codec=codec, fields="tff")
    shown = frames(path)
    assert len(shown) == 6
    assert error(both[3], whole[3]) > 4
    assert max(error(*pair) for pair in zip(shown[1:-1], whole[1:-1])) < 2
    assert notes(path) == ("interlaced, deinterlaced",)


def test_a_window_of_interlaced_video_is_that_of_the_whole(tmp_path, smooth):
    """To the bit, wherever it begins, at a keyframe (each 8th) and behind it."""
    both = [combed(smooth, number)[1] for number in range(24)]
    path = write_pictures(tmp_path / "a.mp4", both, codec="libx264", fields="tff")
    whole = frames(path)
    for first in (0, 7, 8, 9, 16, 21):
        with open_video(str(path), sound=False) as video:
            pictures = video.pictures(np.arange(first, first + 3) / 25, (64, 96))
        np.testing.assert_array_equal(pictures, whole[first : first + 3])


def test_progressive_frames_among_interlaced_ones_stay_as_they_are(tmp_path, smooth):
    from talkverse_jax.media.deinterlace import deinterlaced

    interlaced = write_pictures(tmp_path / "a.mkv", [combed(smooth, n)[1] for n in range(3)], fields="tff")
    progressive = write_pictures(tmp_path / "b.mkv", [smooth] * 3)
    with open_media(interlaced, "a video") as one, open_media(progressive, "a video") as other:
        mixed = [frame for container in (other, one) for frame in container.decode(video=0)]
        for number, frame in enumerate(mixed):
            frame.pts = number
        shown = list(deinterlaced(iter(mixed)))
    assert [float(frame.pts * frame.time_base) for frame in shown] == pytest.approx([n / 1000 for n in range(6)])
    for before, after in zip(mixed[:3], shown[:3]):
        np.testing.assert_array_equal(before.to_ndarray(), after.to_ndarray())
    assert (shown[3].to_ndarray() != mixed[3].to_ndarray()).any()


@pytest.mark.parametrize(
    ("name", "codec", "format"),
    [
        ("a.mov", "prores_ks", "yuva444p10le"),
        ("a.mov", "qtrle", "argb"),
        ("a.webm", "libvpx-vp9", "yuva420p"),
        ("a.webm", "libvpx", "yuva420p"),
    ],
)
def test_transparent_video_lies_on_white(tmp_path, smooth, name, codec, format):
    """As transparent pictures do; VP8's and VP9's alpha is a stream of its own."""
    alpha = np.full((64, 96, 1), 255, np.uint8)
    alpha[:, :48] = 0
    path = write_pictures(tmp_path / name, [np.dstack([smooth, alpha])] * 3, codec=codec, format=format, matrix=BT601)
    image = frames(path)[1]
    assert (image[8:-8, 8:40] >= 254).all()
    assert error(image[:, 56:], smooth[:, 56:]) < 4
    assert notes(path) == ("transparent, laid on white",)


def test_an_opaque_alpha_changes_nothing(tmp_path, smooth):
    rgba = np.dstack([smooth, np.full((64, 96, 1), 255, np.uint8)])
    path = write_pictures(tmp_path / "a.mkv", [rgba], format="yuva444p")
    np.testing.assert_array_equal(frames(path)[0], frames(write_pictures(tmp_path / "b.mkv", [smooth]))[0])
    assert notes(path) == ()


def test_a_size_that_changes_in_the_middle(tmp_path, smooth):
    """A broadcast that goes from one size to another: each picture is brought to the size that is asked for."""
    one = write_pictures(tmp_path / "a.mpg", [smooth] * 25, codec="mpeg2video", format="yuv420p")
    large = np.asarray(Image.fromarray(smooth).resize((192, 128), Image.Resampling.BICUBIC))
    other = write_pictures(tmp_path / "b.mpg", [large] * 25, codec="mpeg2video", format="yuv420p")
    path = tmp_path / "both.m2v"
    path.write_bytes(elementary(one) + elementary(other))
    sizes = {picture.shape for picture in frames(path)}
    assert sizes == {(64, 96, 3), (128, 192, 3)}


def elementary(path):
    with open_media(path, "a video") as container:
        return b"".join(bytes(packet) for packet in container.demux(video=0))
