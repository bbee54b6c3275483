"""Arrays that are computed a block of rows at a time, so that a mapped file becomes another file of any size
in little memory."""

import dataclasses
import math
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Shaped

from talkverse_jax.weights.lazy import Tensor
from talkverse_jax.weights.lora import Addend


@dataclasses.dataclass(frozen=True)
class RowBlocks:
    """An array by its rows.

    Attributes:
      shape, dtype: of the whole.
      read: the rows of a slice of the first axis (the whole, of an array without axes).
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    read: Callable[[slice], np.ndarray]

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def cast(array: Tensor, dtype: np.dtype | None = None) -> RowBlocks:
    """A (mapped) array in another dtype, or as it is."""
    dtype = array.dtype if dtype is None else np.dtype(dtype)
    return RowBlocks(array.shape, dtype, lambda part: _rows(array, part).astype(dtype, copy=False))


def _rows(array: Tensor, part: slice) -> np.ndarray:
    return array[part] if array.ndim else np.asarray(array)


def add(array: Tensor, addends: Sequence[Addend], dtype: np.dtype | None = None) -> RowBlocks:
    """The array, in our layout, and all addends, summed in float32 and rounded once."""
    dtype = array.dtype if dtype is None else np.dtype(dtype)

    def read(part: slice) -> Shaped[np.ndarray, "..."]:
        first, *others = addends
        total = first.rows(part)
        total += _rows(array, part).astype(np.float32, copy=False)
        for addend in others:
            total += addend.rows(part)
        return total.astype(dtype, copy=False)

    return RowBlocks(array.shape, dtype, read)
