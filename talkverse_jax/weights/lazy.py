"""Tensors that are computed when they are read, a few rows at a time: the quantised ones of a file, multiplied out, and
what conversion writes."""

import dataclasses
import math
from collections.abc import Callable

import numpy as np


@dataclasses.dataclass(frozen=True)
class LazyTensor:
    """What conversion needs of a numpy array.

    Attributes:
      shape, dtype: of the values.
      rows: the values of a slice of the first axis (the whole, of a tensor without axes).
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    rows: Callable[[slice], np.ndarray]

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize

    def __getitem__(self, part: slice) -> np.ndarray:
        return self.rows(part)

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        return np.asarray(self.rows(slice(None)), dtype)

    def squeeze(self, axis: tuple[int, ...]) -> "LazyTensor":
        """Without these axes, of length one."""
        return self._seen(lambda array: array.squeeze(axis))

    def transpose(self, axes: tuple[int, ...]) -> "LazyTensor":
        """With its axes in another order."""
        return self._seen(lambda array: array.transpose(axes))

    @property
    def T(self) -> "LazyTensor":
        """With its axes turned round."""
        return self.transpose(tuple(reversed(range(self.ndim))))

    def _seen(self, view: Callable[[np.ndarray], np.ndarray]) -> "LazyTensor":
        shape = view(np.broadcast_to(np.int8(0), self.shape)).shape
        return LazyTensor(shape, self.dtype, _Viewed(self, view))


class _Viewed:
    """Rows of a view, each of which needs the whole tensor: kept from the first row that is read to the last."""

    def __init__(self, tensor: LazyTensor, view: Callable[[np.ndarray], np.ndarray]):
        self._tensor, self._view = tensor, view
        self._whole: np.ndarray | None = None

    def __call__(self, part: slice) -> np.ndarray:
        whole = self._view(np.asarray(self._tensor)) if self._whole is None else self._whole
        _, stop, _ = part.indices(len(whole)) if whole.ndim else (0, 0, 1)
        self._whole = None if not whole.ndim or stop == len(whole) else whole
        return whole[part] if whole.ndim else whole


Tensor = np.ndarray | LazyTensor


@dataclasses.dataclass(frozen=True)
class ScaledTensor(LazyTensor):
    """Numbers times a factor for each row.

    Attributes:
      numbers: as they lie in the file.
      factors: [rows], float32.
    """

    numbers: np.ndarray
    factors: np.ndarray


def scaled(array: np.ndarray, scale: np.ndarray) -> ScaledTensor:
    """`array * scale` in float32.

    Args:
      scale: one number, or one a row: [rows] or [rows, 1, ...].

    Raises:
      ValueError: it is of another shape.
    """
    count = len(array) if array.ndim else 1
    if scale.size != 1 and (scale.size != count or scale.shape[0] != count):
        raise ValueError(f"a scale of {list(scale.shape)} for {list(array.shape)}")
    factors = np.broadcast_to(scale.reshape(-1).astype(np.float32), (count,))

    def rows(part: slice) -> np.ndarray:
        if not array.ndim:
            return array.astype(np.float32) * factors[0]
        numbers = array[part].astype(np.float32)
        numbers *= factors[part].reshape(-1, *(1,) * (array.ndim - 1))
        return numbers

    return ScaledTensor(array.shape, np.dtype(np.float32), rows, array, factors)
