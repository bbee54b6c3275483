import numpy as np
import pytest
from PIL import Image

from talkverse_jax.core.errors import UserError
from talkverse_jax.media.buckets import BUCKETS, choose, fit, to_unit


def test_the_closest_key_is_chosen():
    assert choose("fasttalk-480", 500, 500) == (640, 640)
    assert choose("fasttalk-480", 1920, 1080) == (832, 448)  # 1.78 is nearer to 1.86 than to 1.50
    assert choose("fasttalk-480", 100, 2000) == (320, 1216)
    assert choose("fasttalk-720", 720, 1280) == (704, 1280)
    assert choose("fasttalk-720", 100, 459) == (448, 2048)
    assert choose("fasttalk-720", 9000, 100) == (1920, 512)
    assert choose("tiny-128", 512, 512) == (128, 128)


def test_sizes_suit_the_model():
    """16 pixels a latent cell, 2x2 cells a token; the published tables have 15 and 21 sizes."""
    assert [len(sizes) for sizes in BUCKETS.values()] == [15, 21, 3]
    for sizes in BUCKETS.values():
        for key, (height, width) in sizes.items():
            assert height % 32 == width % 32 == 0
            assert abs(height / width - key) < 0.04
        assert list(sizes) == sorted(sizes)


def test_an_unknown_bucket():
    with pytest.raises(UserError, match=r"fastalk-480: no such bucket; did you mean fasttalk-480\?") as error:
        choose("fastalk-480", 1, 1)
    assert all(name in str(error.value) for name in BUCKETS)


def test_fit_scales_the_short_side_and_crops_the_middle():
    image = np.random.default_rng(0).integers(0, 256, (150, 171, 3), dtype=np.uint8)
    scaled = np.asarray(Image.fromarray(image).resize((145, 128), Image.BILINEAR))  # 145.92, truncated
    # (145 - 128) / 2 = 8.5: half goes to the even 8
    np.testing.assert_array_equal(fit(image, 128, 128), scaled[:, 8:136])

    tall = np.random.default_rng(1).integers(0, 256, (200, 100, 3), dtype=np.uint8)
    scaled = np.asarray(Image.fromarray(tall).resize((128, 256), Image.BILINEAR))
    np.testing.assert_array_equal(fit(tall, 192, 128), scaled[32:224])


def test_fit_pads_with_black_where_the_picture_is_too_narrow():
    image = np.full((100, 103, 3), 200, np.uint8)
    fitted = fit(image, 128, 160)  # scaled to 128x131: 14 black columns in front, 15 behind
    assert fitted.shape == (128, 160, 3)
    assert (fitted[:, 14:145] == 200).all()
    assert not fitted[:, :14].any() and not fitted[:, 145:].any()


def test_to_unit():
    unit = to_unit(np.array([[0, 51, 255]], np.uint8))
    assert unit.dtype == np.float32
    np.testing.assert_allclose(unit, [[-1, -0.6, 1]], atol=1e-7)
