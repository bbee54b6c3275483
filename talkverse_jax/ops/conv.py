"""Convolution over frames, rows and columns, in the way that is fast on the platform at hand.

Shapes: B batch, T frames, F = (T - t) // stride + 1 frames then, H W rows and columns, C channels in, D channels out.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from talkverse_jax.ops.conv_tpu import conv3d_tpu
from talkverse_jax.ops.gradients import with_gradients_of
from talkverse_jax.sharding.layout import Layout


def conv3d(
    x: Float[Array, "B T H W C"],
    kernel: Float[Array, "t y x C D"],
    bias: Float[Array, " D"] | None = None,
    residual: Float[Array, "B F H W D"] | None = None,
    *,
    time_stride: int = 1,
    layout: Layout | None = None,
    axes: tuple[str | None, ...] = (None,) * 5,
) -> Float[Array, "B F H W D"]:
    """3-D convolution without padding in time and with zero padding to the same rows and columns (y, x odd).

    A kernel of one pixel is a sum of matrix products. Others run by our own kernel on TPUs, as one convolution on
    other accelerators, and frame by frame on a CPU; the choice is made when the program is lowered, and only the
    chosen one compiled.

    Args:
      bias: added to the result.
      residual: added to that in float32, which the result is then.
      layout, axes: how `x` is split, by the logical axes of its dimensions.
    """
    if kernel.shape[1:3] == (1, 1):
        return _finish(_sum_over_taps(jnp.matmul, x, kernel[:, 0, 0], time_stride), bias, residual)
    whole, by_frames = (
        functools.partial(_finished, functools.partial(way, time_stride=time_stride))
        for way in (conv3d_whole, conv3d_by_frames)
    )
    args = x, kernel, bias, residual
    settings: Any = jax.config  # its names are made at run time
    exact = x.dtype == jnp.float32 and settings.jax_default_matmul_precision in ("highest", "float32")
    if kernel.shape[1:3] != (3, 3) or time_stride != 1 or exact:
        return jax.lax.platform_dependent(*args, cpu=by_frames, default=whole)
    ours = with_gradients_of(whole, functools.partial(conv3d_tpu, layout=layout or Layout(), axes=axes))
    return jax.lax.platform_dependent(*args, cpu=by_frames, tpu=ours, default=whole)


def _finished(way: Callable, x: Array, kernel: Array, bias: Array | None, residual: Array | None) -> Array:
    return _finish(way(x, kernel), bias, residual)


def _finish(y: Array, bias: Array | None, residual: Array | None) -> Array:
    y = y if bias is None else y + bias
    return y if residual is None else residual.astype(jnp.float32) + y.astype(jnp.float32)


def conv3d_whole(
    x: Float[Array, "B T H W C"], kernel: Float[Array, "t y x C D"], *, time_stride: int
) -> Float[Array, "B F H W D"]:
    """`conv3d` as one 3-D convolution."""
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        window_strides=(time_stride, 1, 1),
        padding=((0, 0), *_same(*kernel.shape[1:3])),
        dimension_numbers=("NDHWC", "DHWIO", "NDHWC"),
    )


def conv3d_by_frames(
    x: Float[Array, "B T H W C"], kernel: Float[Array, "t y x C D"], *, time_stride: int
) -> Float[Array, "B F H W D"]:
    """`conv3d` as a sum of 2-D convolutions, one for each frame of the kernel.

    On a CPU XLA's 3-D convolution takes 1.4 to 6 times as long (two cores, 16 to 256 channels, 2026-11-20).
    Products and sum are float32: a CPU has no faster ones.
    """
    taps = _sum_over_taps(_conv2d, x.astype(jnp.float32), kernel.astype(jnp.float32), time_stride)
    return taps.astype(x.dtype)


def _sum_over_taps(product, x, kernel, stride: int):
    """Sum of `product(frames seen by a tap, tap)` over the kernel's frames."""
    frames = (x.shape[1] - kernel.shape[0]) // stride + 1
    taps = [
        product(x[:, tap : tap + stride * (frames - 1) + 1 : stride], kernel[tap]) for tap in range(kernel.shape[0])
    ]
    return functools.reduce(jnp.add, taps)


def _conv2d(x: Float[Array, "B T H W C"], kernel: Float[Array, "y x C D"]) -> Float[Array, "B T H W D"]:
    images = jax.lax.conv_general_dilated(
        x.reshape(-1, *x.shape[2:]),
        kernel,
        window_strides=(1, 1),
        padding=_same(*kernel.shape[:2]),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    return images.reshape(*x.shape[:2], *images.shape[1:])


def _same(height: int, width: int) -> tuple[tuple[int, int], tuple[int, int]]:
    return (height // 2, height // 2), (width // 2, width // 2)
