"""Tensors that are computed when they are read behave as the arrays that they stand for."""

import numpy as np
import pytest

from talkverse_jax.weights import blocks
from talkverse_jax.weights.lazy import scaled
from talkverse_jax.weights.rule import CONV3D, LINEAR, POINTWISE3D, SAME


@pytest.mark.parametrize(
    "layout, shape", [(SAME, (5, 4)), (LINEAR, (5, 4)), (CONV3D, (5, 4, 1, 2, 3)), (POINTWISE3D, (5, 4, 1, 1, 1))]
)
@pytest.mark.parametrize("of_rows", [False, True])
def test_rows_of_a_scaled_tensor_in_our_layout(layout, shape, of_rows):
    rng = np.random.default_rng(0)
    stored = rng.integers(-127, 128, shape, np.int8)
    scale = rng.uniform(0.1, 1, 5 if of_rows else 1).astype(np.float16)
    wanted = layout.from_torch(stored * scale.astype(np.float32).reshape(-1, *(1,) * (len(shape) - 1)))
    lazy = layout.from_torch(scaled(stored, scale))
    assert lazy.shape == wanted.shape and lazy.dtype == np.float32
    np.testing.assert_array_equal(np.asarray(lazy), wanted)
    for _ in range(2):
        read = blocks.cast(lazy, np.dtype(np.float16)).read
        parts = [read(slice(start, start + 2)) for start in range(0, len(wanted), 2)]
        np.testing.assert_array_equal(np.concatenate(parts), wanted.astype(np.float16))


def test_a_number_alone():
    lazy = scaled(np.array(3, np.int8), np.array([0.5], np.float32))
    assert np.asarray(lazy) == 1.5 and blocks.cast(lazy).read(slice(0, 0)) == 1.5


@pytest.mark.parametrize("shape", [(2,), (2, 2), (0,)])
def test_a_scale_of_another_shape(shape):
    with pytest.raises(ValueError, match=r"a scale of \[.*\] for \[5, 4\]"):
        scaled(np.zeros((5, 4), np.int8), np.zeros(shape, np.float32))
