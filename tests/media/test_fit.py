import numpy as np
from PIL import Image

from talkverse_jax.media.fit import fit, to_unit


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
