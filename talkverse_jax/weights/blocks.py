"""Arrays that are computed a block of rows at a time, so that a mapped file becomes another file of any size
in little memory."""

import dataclasses
import math
from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Shaped

from talkverse_jax.weights.lazy import Tensor


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
    rows = (lambda part: array[part]) if array.ndim else (lambda _: np.asarray(array))
    return RowBlocks(array.shape, dtype, lambda part: rows(part).astype(dtype, copy=False))


def add_product(
    array: Float[Tensor, "rows columns"],
    left: Float[np.ndarray, "rows rank"],
    right: Float[np.ndarray, "rank columns"],
    scale: float,
    dtype: np.dtype | None = None,
) -> RowBlocks:
    """`array + scale * left @ right`, computed in float32 and rounded once."""
    dtype = array.dtype if dtype is None else np.dtype(dtype)

    def read(part: slice) -> Shaped[np.ndarray, "part columns"]:
        scaled = left[part].astype(np.float32) * np.float32(scale)
        # computed by columns, as a transposed PyTorch kernel lies in memory
        product = (right.T.astype(np.float32) @ scaled.T).T
        product += array[part].astype(np.float32, copy=False)
        return product.astype(dtype, copy=False)

    return RowBlocks(array.shape, dtype, read)
