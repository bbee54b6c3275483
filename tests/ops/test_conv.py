"""3-D convolution: each platform's way gives the same numbers, and only that way is in the program."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from talkverse_jax.ops.conv import conv3d, conv3d_by_frames, conv3d_whole


def _case(kernel_size, frames=5):
    x = jax.random.normal(jax.random.key(0), (2, frames, 6, 5, 4))
    return x, jax.random.normal(jax.random.key(1), (*kernel_size, 4, 3))


@pytest.mark.parametrize("time_stride", [1, 2])
@pytest.mark.parametrize("kernel_size", [(3, 3, 3), (1, 3, 3), (3, 1, 1), (2, 3, 1)])
def test_by_frames_equals_whole(kernel_size, time_stride):
    x, kernel = _case(kernel_size)
    whole = conv3d_whole(x, kernel, time_stride=time_stride)
    assert whole.shape == (2, (5 - kernel_size[0]) // time_stride + 1, 6, 5, 3)
    np.testing.assert_allclose(conv3d_by_frames(x, kernel, time_stride=time_stride), whole, atol=1e-5)
    np.testing.assert_allclose(conv3d(x, kernel, time_stride=time_stride), whole, atol=1e-5)


def test_bfloat16_sum_is_rounded_once():
    x, kernel = (a.astype(jnp.bfloat16) for a in _case((3, 3, 3)))
    exact = conv3d_whole(x.astype(jnp.float32), kernel.astype(jnp.float32), time_stride=1)
    ours = conv3d_by_frames(x, kernel, time_stride=1)
    assert ours.dtype == jnp.bfloat16
    np.testing.assert_allclose(ours.astype(jnp.float32), exact, rtol=2**-8, atol=1e-6)


@pytest.mark.parametrize("platform, convolutions", [("cpu", 3), ("cuda", 1)])
def test_one_way_a_platform(platform, convolutions):
    program = jax.jit(conv3d).trace(*_case((3, 3, 3))).lower(lowering_platforms=(platform,)).as_text()
    assert program.count("stablehlo.convolution") == convolutions


def test_a_kernel_of_one_pixel_is_a_matrix_product():
    program = jax.jit(conv3d).lower(*_case((3, 1, 1))).as_text()
    assert "stablehlo.convolution" not in program
    assert program.count("stablehlo.dot_general") == 3
