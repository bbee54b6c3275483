from functools import partial

import numpy as np
import pytest
from PIL import Image

from talkverse_jax.media.buckets import choose, choose_exact
from talkverse_jax.media.fit import bring, cover, framing, to_unit

pad = partial(bring, fit="pad")


def test_pad_scales_the_short_side_and_crops_the_middle():
    image = np.random.default_rng(0).integers(0, 256, (150, 171, 3), dtype=np.uint8)
    scaled = np.asarray(Image.fromarray(image).resize((145, 128), Image.BILINEAR))  # 145.92, truncated
    # (145 - 128) / 2 = 8.5: half goes to the even 8
    np.testing.assert_array_equal(pad(image, (128, 128)), scaled[:, 8:136])

    tall = np.random.default_rng(1).integers(0, 256, (200, 100, 3), dtype=np.uint8)
    scaled = np.asarray(Image.fromarray(tall).resize((128, 256), Image.BILINEAR))
    np.testing.assert_array_equal(pad(tall, (192, 128)), scaled[32:224])


def test_pad_fills_up_with_black_where_the_picture_is_too_narrow():
    image = np.full((100, 103, 3), 200, np.uint8)
    fitted = pad(image, (128, 160))  # scaled to 128x131: 14 black columns in front, 15 behind
    assert fitted.shape == (128, 160, 3)
    assert (fitted[:, 14:145] == 200).all()
    assert not fitted[:, :14].any() and not fitted[:, 145:].any()


def test_cover_scales_until_nothing_is_empty():
    """As training does: 128x131.84 for 128x128, rounded."""
    image = np.random.default_rng(0).integers(1, 256, (100, 103, 3), dtype=np.uint8)
    scaled = np.asarray(Image.fromarray(image).resize((132, 128), Image.BILINEAR))
    np.testing.assert_array_equal(cover(image, (128, 128)), scaled[:, 2:130])


# Of a picture: its size, what it is made at fasttalk-480 and what is said of that.
SAID = {
    "pad": {
        (1920, 1080): "1920x1080, made 896x448; black bars are 11.2% of the frame",
        (1080, 1920): "1080x1920, made 448x832; black bars are 4.3% of the frame",
        (2560, 1080): "2560x1080, made 1024x384; black bars are 11.1% of the frame",
        (1600, 1200): "1600x1200, made 704x576 (cropped 8.3% of the width)",
    },
    "crop": {
        (1920, 1080): "1920x1080, made 896x448 (cropped 11.1% of the height)",
        (1080, 1920): "1080x1920, made 448x832 (cropped 4.3% of the width)",
    },
    "exact": {
        (1920, 1080): "1920x1080, made 832x480 (cropped 2.5% of the width)",
        (1080, 1920): "1080x1920, made 480x832 (cropped 2.5% of the height)",
        (1600, 1200): "1600x1200, made 736x544 (cropped 1.4% of the height)",
        (1500, 1000): "1500x1000, made 768x512",
    },
}


@pytest.mark.parametrize("fit, picture", [(fit, picture) for fit, told in SAID.items() for picture in told])
def test_what_was_done_is_said(fit, picture):
    width, height = picture
    size = (choose_exact if fit == "exact" else choose)("fasttalk-480", height, width)
    assert str(framing((height, width), size, fit)) == SAID[fit][picture]


@pytest.mark.parametrize("fit, share", [("pad", 100 / 896), ("crop", 0), ("exact", 0)])
def test_black_bars_of_1920x1080_are_11_percent_padded_and_none_otherwise(fit, share):
    """Counted in the picture: 1920x1080 at fasttalk-480."""
    size = (choose_exact if fit == "exact" else choose)("fasttalk-480", 1080, 1920)
    frame = bring(np.full((1080, 1920, 3), 255, np.uint8), size, fit)
    assert frame.shape[:2] == size
    assert (frame == 0).all(axis=-1).mean() == pytest.approx(share) == framing((1080, 1920), size, fit).bars


def test_nothing_is_distorted():
    """A circle stays one, whatever the shape and the fit."""
    y, x = np.ogrid[:300, :500]
    circle = np.repeat((np.hypot(y - 150, x - 250) < 100).astype(np.uint8)[..., None] * 255, 3, axis=2)
    for fit, size in [("pad", (448, 896)), ("crop", (448, 896)), ("crop", (640, 640)), ("exact", (480, 832))]:
        lit = bring(circle, size, fit)[..., 0] > 127
        assert abs(lit.any(axis=1).sum() / lit.any(axis=0).sum() - 1) < 0.01


def test_to_unit():
    unit = to_unit(np.array([[0, 51, 255]], np.uint8))
    assert unit.dtype == np.float32
    np.testing.assert_allclose(unit, [[-1, -0.6, 1]], atol=1e-7)


@pytest.mark.parametrize(
    "picture, frame, scaled, corner",
    [
        ((1440, 2560), (448, 896), (504, 896), (28, 0)),
        ((70, 80), (64, 64), (64, 74), (0, 5)),  # 73.14 is rounded up; 5.0
        ((101, 77), (64, 64), (84, 64), (10, 0)),  # 83.9
        ((480, 637), (448, 448), (448, 595), (0, 74)),  # 73.5: half to even
    ],
)
def test_a_frame_is_filled_with_sides_rounded_up(picture, frame, scaled, corner):
    made = framing(picture, frame, "fill")
    assert (made.scaled, made.corner) == (scaled, corner)
    assert made(np.zeros((*picture, 3), np.uint8)).shape == (*frame, 3)
