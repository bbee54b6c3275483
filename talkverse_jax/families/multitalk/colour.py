"""Colours brought back to a picture's: mean and deviation of each channel of CIELAB (Reinhard et al. 2001).

sRGB and CIELAB under D65 seen at 2 degrees, with the constants of scikit-image, which the original uses.
Shapes: n frames, H W pixels.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

_XYZ_OF_RGB = np.array([[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]])
_WHITE = np.array([0.95047, 1.0, 1.08883])
_FLAT = 1e-5  # a channel of less deviation is flat: float32 gives one 4e-6 at most, which must not be blown up


def correct(
    frames: Float[Array, "n H W 3"], picture: Float[Array, "H W 3"], strength: Float[Array, ""] | float
) -> Float[Array, "n H W 3"]:
    """Frames in [-1, 1] with the picture's colours, each by itself.

    Args:
      strength: from 0, as they are, to 1.
    """
    before = jnp.clip((frames + 1) / 2, 0, 1)
    lab, wanted = _to_lab(before), _to_lab(jnp.clip((picture[None] + 1) / 2, 0, 1))
    centred, _, deviation = _moments(lab)
    _, wanted_mean, wanted_deviation = _moments(wanted)
    scale = jnp.where(deviation < _FLAT, 0, wanted_deviation / jnp.maximum(deviation, _FLAT))
    after = _to_rgb(centred * scale + wanted_mean)
    return ((1 - strength) * before + strength * after) * 2 - 1


def _moments(
    lab: Float[Array, "n H W 3"],
) -> tuple[Float[Array, "n H W 3"], Float[Array, "n 1 1 3"], Float[Array, "n 1 1 3"]]:
    """A frame's channels less their mean, that mean, and their population deviation.

    A second mean takes the first one's rounding off, by which alone a flat channel would deviate by up to 4e-5.
    """
    rounded = _mean(lab)
    left = _mean(lab - rounded)
    centred = lab - rounded - left
    return centred, rounded + left, jnp.sqrt(_mean(jnp.square(centred)))


def _mean(x: Float[Array, "n H W 3"]) -> Float[Array, "n 1 1 3"]:
    return x.mean(axis=2, keepdims=True).mean(axis=1, keepdims=True)


def _to_lab(rgb: Float[Array, "n H W 3"]) -> Float[Array, "n H W 3"]:
    linear = jnp.where(rgb > 0.04045, ((rgb + 0.055) / 1.055) ** 2.4, rgb / 12.92)
    xyz = _mixed(linear, _XYZ_OF_RGB / _WHITE[:, None])
    f = jnp.where(xyz > 0.008856, jnp.cbrt(xyz), 7.787 * xyz + 16 / 116)
    x, y, z = jnp.moveaxis(f, -1, 0)
    return jnp.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def _to_rgb(lab: Float[Array, "n H W 3"]) -> Float[Array, "n H W 3"]:
    lightness, a, b = jnp.moveaxis(lab, -1, 0)
    y = (lightness + 16) / 116
    f = jnp.stack([y + a / 500, y, jnp.maximum(y - b / 200, 0)], axis=-1)
    xyz = jnp.where(f > 0.2068966, f**3, (f - 16 / 116) / 7.787)
    linear = _mixed(xyz, np.linalg.inv(_XYZ_OF_RGB) * _WHITE)
    curved = 1.055 * jnp.maximum(linear, 0.0031308) ** (1 / 2.4) - 0.055
    return jnp.clip(jnp.where(linear > 0.0031308, curved, 12.92 * linear), 0, 1)


def _mixed(x: Float[Array, "n H W 3"], matrix: np.ndarray) -> Float[Array, "n H W 3"]:
    """`matrix @ x` of every pixel, as sums: matrix units would round it."""
    x, y, z = jnp.moveaxis(x, -1, 0)
    return jnp.stack([float(a) * x + float(b) * y + float(c) * z for a, b, c in matrix], axis=-1)
