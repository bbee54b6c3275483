"""Convolution over frames, rows and columns, in the way that is fast on the platform at hand.

Shapes: B batch, T frames, F = (T - t) // stride + 1 frames then, H W rows and columns, C channels in, D channels out.
"""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def conv3d(
    x: Float[Array, "B T H W C"], kernel: Float[Array, "t y x C D"], *, time_stride: int = 1
) -> Float[Array, "B F H W D"]:
    """3-D convolution without padding in time and with zero padding to the same rows and columns (y, x odd).

    A kernel of one pixel is a sum of matrix products. Others run as one convolution on accelerators and
    frame by frame on a CPU; the choice is made when the program is lowered, and only the chosen one compiled.
    """
    if kernel.shape[1:3] == (1, 1):
        return _sum_over_taps(jnp.matmul, x, kernel[:, 0, 0], time_stride)
    return jax.lax.platform_dependent(
        x,
        kernel,
        cpu=functools.partial(conv3d_by_frames, time_stride=time_stride),
        default=functools.partial(conv3d_whole, time_stride=time_stride),
    )


def conv3d_whole(
    x: Float[Array, "B T H W C"], kernel: Float[Array, "t y x C D"], *, time_stride: int
) -> Float[Array, "B F H W D"]:
    """`conv3d` as one 3-D convolution.

    For a TPU v6e XLA reckons with half the memory traffic and 0.6 to 0.7 of the time of the sum by frames
    (256 channels at 320x320, bfloat16 and float32, 2026-11-20).
    """
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
