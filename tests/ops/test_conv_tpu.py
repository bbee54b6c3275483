"""The TPUs' convolution, interpreted, against XLA's; alone and on several devices."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh

from talkverse_jax.ops.conv import conv3d, conv3d_whole
from talkverse_jax.ops.conv_tpu import conv3d_tpu
from talkverse_jax.sharding.layout import Layout
from talkverse_jax.sharding.pictures import PICTURES, picture_layout, split_for

TOLERANCE = {"float32": 1e-5, "bfloat16": 4e-3}  # of the largest value


def _case(shape, out_dim, taps, dtype, residual=False):
    keys = jax.random.split(jax.random.key(0), 4)
    x = jax.random.normal(keys[0], shape, dtype)
    kernel = jax.random.normal(keys[1], (taps, 3, 3, shape[-1], out_dim)) / 50
    beside = jax.random.normal(keys[3], (shape[0], shape[1] + 1 - taps, *shape[2:4], out_dim)) if residual else None
    return x, kernel.astype(dtype), jax.random.normal(keys[2], (out_dim,), dtype), beside


def _check(layout, x, kernel, bias, residual):
    ours = jax.jit(functools.partial(conv3d_tpu, layout=layout, axes=PICTURES, interpret=True))(
        x, kernel, bias, residual
    )
    wanted = conv3d_whole(x.astype(jnp.float32), kernel.astype(jnp.float32), time_stride=1) + bias
    wanted = wanted if residual is None else wanted + residual
    assert (ours.shape, ours.dtype) == (wanted.shape, x.dtype if residual is None else jnp.float32)
    largest = float(jnp.abs(wanted).max())
    np.testing.assert_allclose(ours.astype(jnp.float32), wanted, atol=TOLERANCE[str(x.dtype)] * largest)
    return ours


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    "shape, out_dim, taps, residual",
    [
        ((2, 3, 6, 10, 48), 12, 3, True),  # channels that fill no lanes, a block of all rows
        pytest.param((1, 3, 26, 64, 128), 128, 3, False, marks=pytest.mark.slow),  # blocks of rows
        pytest.param(
            (1, 2, 4, 16, 128), 512, 1, True, marks=pytest.mark.slow
        ),  # each frame for itself, blocks of channels
        pytest.param(
            (1, 4, 7, 9, 256), 300, 3, True, marks=pytest.mark.slow
        ),  # a last block of channels that is not full
    ],
)
def test_it_is_the_convolution(shape, out_dim, taps, residual, dtype):
    _check(Layout(), *_case(shape, out_dim, taps, dtype, residual))


@pytest.mark.parametrize("taps", [pytest.param(3, marks=pytest.mark.slow), 1])
def test_devices_give_their_neighbours_rows_and_columns(taps):
    layout = split_for(picture_layout(Layout(Mesh(np.array(jax.devices()), ("data",)))), 1, 4, 4)
    assert layout.axes_of("rows") and layout.axes_of("columns")
    ours = _check(layout, *_case((1, 3, 8, 16, 128), 128, taps, "float32", True))
    assert ours.sharding.shard_shape(ours.shape)[2:4] in [(2, 8), (4, 4)]


def _programs(platform, precision, kernel_size, dtype):
    x, kernel = jnp.zeros((1, 3, 4, 8, 16), dtype), jnp.zeros((*kernel_size, 16, 16), dtype)
    with jax.default_matmul_precision(precision):
        return jax.jit(conv3d).trace(x, kernel).lower(lowering_platforms=(platform,)).as_text()


@pytest.mark.parametrize(
    "precision, kernel_size, dtype, ours",
    [
        ("high", (3, 3, 3), "float32", True),
        ("highest", (3, 3, 3), "bfloat16", True),
        ("highest", (3, 3, 3), "float32", False),  # exact to the last digits
        ("high", (2, 3, 1), "bfloat16", False),
    ],
)
def test_what_it_can_do_is_its_own(precision, kernel_size, dtype, ours):
    program = _programs("tpu", precision, kernel_size, dtype)
    assert ("tpu_custom_call" in program, "stablehlo.convolution" in program) == (ours, not ours)


def test_its_gradients_are_those_of_xla():
    args = _case((1, 3, 4, 8, 16), 16, 3, "float32", True)

    def loss(function, *args):
        return jnp.sum(function(*args) ** 2)

    def plain(x, kernel, bias, residual):
        return conv3d_whole(x, kernel, time_stride=1) + bias + residual

    found, wanted = (jax.grad(functools.partial(loss, each), argnums=(0, 1, 2, 3))(*args) for each in (conv3d, plain))
    for ours, others in zip(found, wanted):
        np.testing.assert_allclose(ours, others, rtol=1e-4, atol=1e-4)
    gradient = jax.jit(jax.grad(functools.partial(loss, conv3d)))
    program = gradient.trace(*args).lower(lowering_platforms=("tpu",)).as_text()
    assert "stablehlo.convolution" in program and "tpu_custom_call" not in program
