"""Arrays that are computed a block of rows at a time, so that a mapped file becomes another file of any size
in little memory."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Shaped

from talkverse_jax.weights.lazy import LazyTensor, Tensor
from talkverse_jax.weights.lora import Addend


def cast(array: Tensor, dtype: np.dtype | None = None) -> LazyTensor:
    """A (mapped) array in another dtype, or as it is."""
    dtype = array.dtype if dtype is None else np.dtype(dtype)
    return LazyTensor(array.shape, dtype, lambda part: _rows(array, part).astype(dtype, copy=False))


def _rows(array: Tensor, part: slice) -> np.ndarray:
    return array[part] if array.ndim else np.asarray(array)


def add(array: Tensor, addends: Sequence[Addend], dtype: np.dtype | None = None) -> LazyTensor:
    """The array, in our layout, and all addends, summed in float32 and rounded once."""
    dtype = array.dtype if dtype is None else np.dtype(dtype)

    def read(part: slice) -> Shaped[np.ndarray, "..."]:
        first, *others = addends
        total = first.rows(part)
        total += _rows(array, part).astype(np.float32, copy=False)
        for addend in others:
            total += addend.rows(part)
        return total.astype(dtype, copy=False)

    return LazyTensor(array.shape, dtype, read)
