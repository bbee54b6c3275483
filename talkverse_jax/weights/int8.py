"""Kernels of linear layers as int8 with a scale for each output:

    P/kernel [in, out] int8, P/scale [out] float32        W = kernel * scale

They are what a quantised file holds (`quanto.py`), or a kernel rounded to the nearest as quanto's qint8 does: the scale
is the largest of an output's weights by 127.

Shapes: I inputs, O outputs.
"""

import fnmatch
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int8

from talkverse_jax.weights.blocks import cast
from talkverse_jax.weights.component import Component
from talkverse_jax.weights.lazy import LazyTensor, ScaledTensor, Tensor
from talkverse_jax.weights.match import Matched
from talkverse_jax.weights.rule import LINEAR, TensorLayout

DTYPE = "int8"
_KERNEL, _SCALE = "/kernel", "/scale"
_LARGEST = 127
_BLOCK_BYTES = 32 * 1024**2
Rounded = tuple[LazyTensor, LazyTensor]  # the numbers [I, O] and their scales [O]


def is_for(component: Component, pair: Matched) -> bool:
    """Whether a component computes with the int8 of a parameter."""
    known = any(fnmatch.fnmatchcase(pair.path, pattern) for pattern in component.int8)
    return known and pair.rule.layout == LINEAR and pair.path.endswith(_KERNEL)


def scale_of(path: str) -> str:
    """The path of the scales of a kernel's."""
    return path.removesuffix(_KERNEL) + _SCALE


def is_kernel(leaf: Any) -> bool:
    """Whether a stored array is a kernel of int8."""
    return leaf.dtype == np.int8


def is_scale(path: str, stored: Mapping[str, Any]) -> bool:
    """Whether a stored array is the scales of such a kernel. (A norm has a scale, too.)"""
    kernel = stored.get(path.removesuffix(_SCALE) + _KERNEL)
    return path.endswith(_SCALE) and kernel is not None and is_kernel(kernel)


def leaves(path: str, rounded: Rounded) -> dict[str, LazyTensor]:
    """What is stored of a kernel, by path."""
    numbers, scale = rounded
    return {scale_of(path): scale, path: numbers}


def stored(tensor: Tensor, layout: TensorLayout) -> Rounded | None:
    """The file's own int8, where it has that of this tensor."""
    if not isinstance(tensor, ScaledTensor) or tensor.numbers.dtype != np.int8:
        return None
    return cast(layout.from_torch(tensor.numbers)), cast(tensor.factors)


def rounded(kernel: Tensor) -> Rounded:
    """A kernel [I, O] rounded to the nearest."""
    made = _Rounding(kernel)
    inputs, outputs = kernel.shape
    return (
        LazyTensor((inputs, outputs), np.dtype(np.int8), made.numbers),
        LazyTensor((outputs,), np.dtype(np.float32), lambda part: made.scale[part]),
    )


class _Rounding:
    """Rows of a kernel, which need the largest weights of all rows."""

    def __init__(self, kernel: Tensor):
        self._kernel = kernel

    @functools.cached_property
    def scale(self) -> Float[np.ndarray, "O"]:
        rows, outputs = self._kernel.shape
        step, largest = max(1, _BLOCK_BYTES // (4 * outputs)), np.zeros(outputs, np.float32)
        for start in range(0, rows, step):
            part = self._kernel[start : start + step].astype(np.float32)
            np.maximum(largest, np.abs(part).max(axis=0), out=largest)
        return largest / np.float32(_LARGEST)

    def numbers(self, part: slice) -> Int8[np.ndarray, "part O"]:
        # of an output without weights, all are 0 whatever its scale
        divided = self._kernel[part].astype(np.float32) / np.where(self.scale > 0, self.scale, np.float32(1))
        return np.rint(divided).clip(-_LARGEST, _LARGEST).astype(np.int8)


@functools.partial(jax.jit, static_argnums=2)
def multiplied(kernel: Int8[Array, "I O"], scale: Float[Array, "O"], dtype) -> Float[Array, "I O"]:
    """The kernel in floats."""
    return (kernel.astype(jnp.float32) * scale).astype(dtype)
