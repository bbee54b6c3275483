"""Bicubic resizing as two matrix products.

Keys' kernel with a = -0.75 over the four nearest rows (columns), half-pixel centres, no antialiasing, the border
repeated. (`jax.image.resize` has a = -0.5.)

Shapes: B batch, H W rows and columns, h w the same after it, C channels.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

_A = -0.75


def resize(pictures: Float[Array, "B H W C"], height: int, width: int) -> Float[Array, "B h w C"]:
    """Pictures of another size in float32, which may overshoot; the aspect ratio is not kept."""
    down, across = _weights(pictures.shape[1], height), _weights(pictures.shape[2], width)
    product = functools.partial(jnp.einsum, precision=jax.lax.Precision.HIGHEST)
    rows = product("hH,bHWc->bhWc", down, pictures.astype(jnp.float32))
    return product("wW,bhWc->bhwc", across, rows)


@functools.cache
def _weights(size: int, to: int) -> np.ndarray:
    """What each of `to` rows takes of each of `size`."""
    centre = (np.arange(to) + 0.5) * (size / to) - 0.5
    first = np.floor(centre).astype(int) - 1
    weights = np.zeros((to, size))
    for tap in range(4):
        row = first + tap
        np.add.at(weights, (np.arange(to), row.clip(0, size - 1)), _kernel(np.abs(centre - row)))
    return weights.astype(np.float32)


def _kernel(distance: np.ndarray) -> np.ndarray:
    """Keys' cubic convolution kernel, for distances of up to two pixels."""
    near = ((_A + 2) * distance - (_A + 3)) * distance**2 + 1
    far = _A * (((distance - 5) * distance + 8) * distance - 4)
    return np.where(distance <= 1, near, far)
