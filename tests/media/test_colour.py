"""HDR and wide gamuts, against reference values of FFmpeg's zscale and tonemap, and the fast path against the plain."""

from fractions import Fraction

import av
import numpy as np
import pytest
from av.filter import Graph

from talkverse_jax.media.colour import ADOBE_RGB, PICTURES, VIDEO, Colours, colours_of, converted
from talkverse_jax.media.media import open_media
from talkverse_jax.media.rgb import converter, to_rgb
from talkverse_jax.media.screen import video_frames
from talkverse_jax.media.source_video import SourceVideo
from tests.media.short_video import write_pictures

HLG, PQ = Colours("BT.2020", "HLG"), Colours("BT.2020", "PQ")


def test_diffuse_white_and_grey_are_where_the_reports_put_them():
    """ITU-R BT.2408: PQ's 58% and HLG's 75% are 203 cd/m2, PQ's 38% and HLG's 38% 18% grey (26 cd/m2)."""
    for colours, white, grey in ((PQ, 0.58, 0.38), (HLG, 0.75, 0.38)):
        of_white, of_grey = 255 * converted(np.array([[white, grey]] * 3), colours, VIDEO)[0]
        assert of_white == pytest.approx(217, abs=1)  # mobius(1) = 0.68
        assert of_grey == pytest.approx(255 * (26 / 203) ** (1 / 2.4), abs=2.5)


def test_blacks_whites_and_hues():
    """Black is black, 1000 cd/m2 white; BT.2020's grey is grey; what is over is clipped."""
    ramp = np.linspace(0, 1, 101)
    for colours in (PQ, HLG, Colours("BT.2020", "SDR"), Colours("P3", "SDR")):
        red, green, blue = converted(np.array([ramp] * 3), colours, VIDEO)
        np.testing.assert_allclose([red, red], [green, blue], atol=1e-3)
        assert red[0] == 0 and red[-1] == pytest.approx(1, abs=1e-6) and (np.diff(red) >= -1e-9).all()
    assert converted(np.array([[0.7518]] * 3), PQ, VIDEO)[0] == pytest.approx(1, abs=1e-3)
    np.testing.assert_allclose(converted(np.array([ramp] * 3), Colours("P3", "SDR"), PICTURES)[0], ramp, atol=1e-3)


@pytest.mark.parametrize("transfer", ["PQ", "HLG"])
def test_the_curve_is_that_of_the_filter_tonemap(transfer):
    """FFmpeg's own `tonemap=mobius`, on light of BT.709's primaries: to 1e-3 of it."""
    values = np.random.default_rng(0).uniform(0, 0.75 if transfer == "PQ" else 1, (3, 16, 64))
    colours = Colours("BT.709", transfer)
    light = _light(values, transfer)
    graph = Graph()
    tags = {"video_size": "64x16", "pix_fmt": "gbrpf32le", "time_base": "1/25", "colorspace": "0", "range": "2"}
    source, sink = graph.add("buffer", **tags), graph.add("buffersink")
    graph.link_nodes(source, graph.add("tonemap", tonemap="mobius", desat="0", peak=str(1000 / 203)), sink).configure()
    frame = av.VideoFrame.from_ndarray(np.moveaxis(light, 0, -1).astype(np.float32), format="gbrpf32le")
    frame.pts, frame.time_base, frame.colorspace, frame.color_range, frame.color_trc = 0, Fraction(1, 25), 0, 2, 8
    graph.vpush(frame)
    expected = np.moveaxis(graph.vpull().to_ndarray(), -1, 0)
    got = converted(values, colours, VIDEO) ** 2.4
    np.testing.assert_allclose(got, expected.clip(0, 1), atol=1e-3)


def _light(values, transfer):
    """Written out from BT.2100 again, in units of 203 cd/m2."""
    if transfer == "PQ":
        power = values ** (1 / 78.84375)
        return (
            10000 / 203 * (np.maximum(power - 0.8359375, 0) / (18.8515625 - 18.6875 * power)) ** (1 / 0.1593017578125)
        )
    scene = np.where(values <= 0.5, values**2 / 3, (np.exp((values - 0.55991073) / 0.17883277) + 0.28466892) / 12)
    return 1000 / 203 * scene * (0.2627 * scene[0] + 0.6780 * scene[1] + 0.0593 * scene[2]) ** 0.2


@pytest.mark.parametrize(
    ("colours", "display"),
    [
        (PQ, VIDEO),
        (HLG, VIDEO),
        (Colours("BT.2020", "SDR"), VIDEO),
        (Colours("P3", "SDR"), PICTURES),
        (ADOBE_RGB, PICTURES),
    ],
)
def test_the_tables_give_what_the_formulas_give(colours, display):
    """To the nearest of 255, but for a tenth."""
    values = np.random.default_rng(0).integers(0, 1 << 16, (50, 400, 3), dtype=np.uint16)
    got = converter(colours, display)(av.VideoFrame.from_ndarray(values, format="rgb48le"))
    expected = 255 * converted(np.moveaxis(values / 65535, -1, 0), colours, display)
    np.testing.assert_allclose(got, np.moveaxis(expected, 0, -1), atol=0.6)


def test_what_files_say():
    """Numbers of ITU-T H.273: primaries, transfer, matrix."""
    assert colours_of(9, 16, 9) == PQ and colours_of(9, 18, 9) == HLG
    assert colours_of(2, 18, 2) == HLG and colours_of(2, 16, 2) == PQ  # primaries not said
    assert colours_of(12, 16, 1) == Colours("P3", "PQ")
    assert colours_of(9, 14, 9) == colours_of(2, 2, 9) == Colours("BT.2020", "SDR")
    assert colours_of(12, 13, 1) == colours_of(11, 1, 1) == Colours("P3", "SDR")
    for ordinary in ((1, 1, 1), (2, 2, 2), (6, 6, 6), (5, 6, 5), (1, 13, 0), (1, 2, 2)):
        assert colours_of(*ordinary).ordinary


# The 24 patches of a colour chart and four that are brighter than white, as R'G'B' of 10 bits, and what FFmpeg 9.0
# makes of them: zscale=t=linear:npl=203:agamma=false,format=gbrpf32le,zscale=p=bt709,tonemap=mobius:desat=0:peak=4.926,
# zscale=t=bt709:m=gbr:r=pc,format=gbrp (of SDR zscale=p=bt709:t=bt709:m=gbr:r=pc,format=gbrp).
PQ_CHART = """
380,337,301 505,468,435 392,413,469 358,385,306 436,428,497 451,513,494 516,437,290 349,353,479 486,377,373
339,282,381 487,514,347 535,489,318 289,279,453 383,453,335 457,309,283 553,533,332 480,370,456 351,429,475
582,582,581 533,533,533 478,478,478 415,415,414 338,338,338 246,246,246 601,562,527 612,529,367 435,520,569
681,681,680
"""
PQ_FFMPEG = """
116,83,69 187,145,126 99,122,158 87,109,68 131,127,175 98,185,165 200,117,41 80,91,167 187,87,96 95,60,108
153,184,62 204,149,41 56,61,151 70,150,74 174,54,59 208,178,26 182,85,145 0,134,163 213,213,213 192,192,192
161,161,161 123,123,123 86,86,86 53,53,53 227,176,153 234,138,48 12,174,210 242,242,242
"""
HLG_CHART = """
383,300,240 628,543,460 386,433,570 331,384,242 478,458,625 490,637,596 657,471,204 317,324,613 608,353,347
316,223,402 577,638,277 684,584,234 232,218,582 360,523,273 560,247,210 707,668,248 596,340,538 305,468,583
748,748,746 667,667,667 567,567,567 436,436,432 304,304,304 186,186,186 787,712,641 813,651,298 447,648,747
898,898,896
"""
HLG_FFMPEG = """
116,83,68 187,145,125 99,122,158 88,108,67 131,126,175 100,184,165 199,117,41 80,91,166 186,87,96 95,60,108
153,183,62 204,149,42 56,61,151 70,149,73 173,53,59 208,179,28 182,84,146 0,133,162 213,213,212 191,191,191
161,161,161 122,123,121 86,86,86 52,52,52 227,175,152 234,137,48 0,173,210 242,242,241
"""
SDR_CHART = """
417,340,283 717,616,535 441,486,616 377,427,290 537,518,693 572,740,686 749,539,268 361,368,643 663,411,405
344,257,420 665,743,357 811,672,310 265,252,578 422,577,336 587,295,258 869,804,332 648,398,584 364,519,633
975,975,971 802,802,802 642,642,642 489,489,486 341,341,341 209,209,209
"""
SDR_FFMPEG = """
116,82,69 194,151,130 98,122,158 87,109,67 134,129,178 103,190,171 215,126,44 80,91,167 194,90,99 94,60,108
157,189,64 225,163,46 56,61,151 70,149,73 176,54,60 232,200,33 188,86,149 15,133,162 244,244,243 201,201,201
161,161,161 122,122,122 85,85,85 52,52,52
"""


def patches(text):
    return np.array([[int(value) for value in patch.split(",")] for patch in text.split()])


@pytest.mark.parametrize(
    ("transfer", "chart", "ffmpeg", "unconverted", "note"),
    [
        (16, PQ_CHART, PQ_FFMPEG, 34.4, "HDR (PQ), tone-mapped to SDR"),
        (18, HLG_CHART, HLG_FFMPEG, 17.0, "HDR (HLG), tone-mapped to SDR"),
        (14, SDR_CHART, SDR_FFMPEG, 9.3, "BT.2020 colours, converted to BT.709's"),
    ],
)
def test_video_in_bt2020_is_what_ffmpeg_makes_of_it(tmp_path, transfer, chart, ffmpeg, unconverted, note):
    """Mean error below 1 of 255, where it was 34.4 (PQ), 17.0 (HLG) and 9.3 (SDR)."""
    picture = (patches(chart)[None] * 64 + 32).astype(np.uint16).repeat(32, axis=0).repeat(8, axis=1)
    format = "yuv444p10le"
    path = write_pictures(tmp_path / "a.mkv", [picture] * 2, format=format, primaries=9, transfer=transfer, matrix=9)
    with open_media(path, "a video") as container:
        stored = to_rgb(next(container.decode(video=0)))[4, 4::8]
    with open_media(path, "a video") as container:
        [image, _] = [shown[4, 4::8] for _, shown in video_frames(container)]
    expected = patches(ffmpeg)
    assert np.abs(image - expected).mean() < 1
    assert np.abs(stored - expected).mean() == pytest.approx(unconverted, abs=0.1)
    assert SourceVideo(path).notes == (note,)
