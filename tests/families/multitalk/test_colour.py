"""Colours brought back to a picture's, against the same in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from talkverse_jax.families.multitalk.colour import correct

RGB_TO_XYZ = np.array([[0.412453, 0.35758, 0.180423], [0.212671, 0.71516, 0.072169], [0.019334, 0.119193, 0.950227]])
WHITE = np.array([0.95047, 1.0, 1.08883])


def pictures(count: int, height: int = 48, width: int = 64) -> np.ndarray:
    y, x = np.mgrid[:height, :width] / 50
    waves = np.stack([np.sin(3 * x + y), np.cos(2 * y - x), np.sin(5 * x * y)], axis=-1)
    noise = np.random.default_rng(0).standard_normal((count, height, width, 3))
    brightness = np.linspace(0.3, 0.9, count).reshape(-1, 1, 1, 1)
    return np.clip(brightness * waves + 0.1 * noise, -1, 1).astype(np.float32)


def lab_of(rgb):
    linear = np.where(rgb > 0.04045, ((rgb + 0.055) / 1.055) ** 2.4, rgb / 12.92)
    xyz = linear @ RGB_TO_XYZ.T / WHITE
    x, y, z = np.moveaxis(np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116), -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def rgb_of(lab):
    y = (lab[..., 0] + 16) / 116
    f = np.stack([lab[..., 1] / 500 + y, y, np.maximum(y - lab[..., 2] / 200, 0)], axis=-1)
    linear = np.where(f > 0.2068966, f**3, (f - 16 / 116) / 7.787) * WHITE @ np.linalg.inv(RGB_TO_XYZ).T
    curved = 1.055 * np.maximum(linear, 0.0031308) ** (1 / 2.4) - 0.055
    return np.clip(np.where(linear > 0.0031308, curved, 12.92 * linear), 0, 1)


def expected(frames, picture, strength):
    """Float64, frame by frame."""
    done = []
    wanted = lab_of((picture.astype(np.float64) + 1) / 2)
    for frame in (frames.astype(np.float64) + 1) / 2:
        lab = lab_of(frame)
        unit = (lab - lab.mean((0, 1))) / lab.std((0, 1))
        after = rgb_of(unit * wanted.std((0, 1)) + wanted.mean((0, 1)))
        done.append((1 - strength) * frame + strength * after)
    return np.stack(done) * 2 - 1


@pytest.mark.parametrize("strength", [1.0, 0.6])
def test_each_frame_gets_the_picture_s_mean_and_deviation(strength):
    *frames, picture = pictures(4)
    frames, picture = np.stack(frames), -picture[..., ::-1]
    found = jax.jit(correct)(frames, picture, np.float32(strength))
    np.testing.assert_allclose(found, expected(frames, picture, strength), atol=2e-5)
    assert np.abs(found - frames).max() > 0.1


def test_a_flat_frame_gets_the_picture_s_mean_and_no_noise():
    (picture,) = pictures(1)
    colours = np.linspace(-0.95, 0.95, 12, dtype=np.float32).reshape(-1, 1, 1, 1) * np.array([1, 0.7, -0.3], np.float32)
    frames = np.broadcast_to(colours, (12, *picture.shape))
    mean = rgb_of(lab_of((picture.astype(np.float64) + 1) / 2).mean((0, 1))) * 2 - 1
    found = jax.jit(correct)(frames, picture, np.float32(1))
    np.testing.assert_allclose(found, np.broadcast_to(mean, found.shape), atol=2e-6)


def test_means_are_of_the_whole_frame_where_devices_hold_parts_of_it():
    *frames, picture = pictures(3)
    frames = np.stack(frames)
    mesh = jax.make_mesh((2, 4), ("rows", "columns"))
    parts = jax.device_put(frames, NamedSharding(mesh, PartitionSpec(None, "rows", "columns")))
    found = jax.jit(correct)(parts, picture, np.float32(1))
    np.testing.assert_allclose(found, correct(jnp.asarray(frames), jnp.asarray(picture), 1.0), atol=1e-5)
