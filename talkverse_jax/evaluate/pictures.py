"""Frames as numbers: luma, blur, structural similarity, sharpness."""

import functools

import numpy as np
from jaxtyping import Float, Num, UInt8

_SSIM_SIGMA = 1.5
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2


def luma(pictures: UInt8[np.ndarray, "*n H W 3"]) -> Float[np.ndarray, "*n H W"]:
    """Brightness as Rec. 601 weighs colours, 0 to 255."""
    return pictures.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)


def blurred(values: Num[np.ndarray, "*n H W"], sigma: float) -> Float[np.ndarray, "*n H W"]:
    """Gaussian over rows and columns, the edges held."""
    reach = int(np.ceil(3 * sigma))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2).astype(np.float32)
    kernel /= kernel.sum()
    for axis in (-2, -1):
        pad = [(0, 0)] * values.ndim
        pad[axis] = (reach, reach)
        padded, length = np.pad(values, pad, mode="edge"), values.shape[axis]
        take = (slice(None),) * (values.ndim + axis)
        parts = (weight * padded[(*take, slice(place, place + length))] for place, weight in enumerate(kernel))
        values = functools.reduce(np.add, parts)
    return values


def ssim_map(one: Float[np.ndarray, "*n H W"], other: Float[np.ndarray, "*n H W"]) -> Float[np.ndarray, "*n H W"]:
    """Structural similarity of two pictures (0 to 255) around each pixel: Gaussian windows of 1.5 pixels."""
    blur = lambda values: blurred(values, _SSIM_SIGMA)  # noqa: E731
    mean_one, mean_other = blur(one), blur(other)
    var_one, var_other = blur(one * one) - mean_one**2, blur(other * other) - mean_other**2
    both = blur(one * other) - mean_one * mean_other
    alike = (2 * mean_one * mean_other + _C1) * (2 * both + _C2)
    return alike / ((mean_one**2 + mean_other**2 + _C1) * (var_one + var_other + _C2))


def sharpness(grey: Float[np.ndarray, "*n H W"]) -> Float[np.ndarray, "*n"]:
    """The variance of the Laplacian."""
    inner = grey[..., 1:-1, 1:-1]
    around = grey[..., :-2, 1:-1] + grey[..., 2:, 1:-1] + grey[..., 1:-1, :-2] + grey[..., 1:-1, 2:]
    return np.asarray((around - 4 * inner).var(axis=(-2, -1)))
