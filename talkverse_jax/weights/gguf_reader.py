"""Tensors of GGUF files, dequantised a block of rows at a time. Needs the package `gguf`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from talkverse_jax.core.errors import UserError
from talkverse_jax.core.paths import existing_file
from talkverse_jax.weights import stand_ins
from talkverse_jax.weights.lazy import LazyTensor, Tensor

if TYPE_CHECKING:
    from gguf import GGUFReader, ReaderTensor

MAGIC = b"GGUF"
_READ = ("F32", "F16", "BF16", "Q8_0", "Q4_K", "Q5_K", "Q6_K")
_ORIGINAL_SHAPE = "comfy.gguf.orig_shape."  # before a writer gave it rows that its blocks divide
_BLOCK = 1024**2  # numbers dequantised at once; K-quants take eight times their room meanwhile
_BROKEN = (ValueError, LookupError, TypeError, ArithmeticError, AttributeError, OSError)


def read_gguf(path: str | Path) -> tuple[dict[str, Tensor], str]:
    """The tensors of a file by name, in float32 when they are read, and their kinds for people: "Q4_K, Q8_0".

    Raises:
      UserError: the file is missing, damaged, cut short, or of a kind that is not read, or `gguf` is not installed.
    """
    path = existing_file(path, "a .gguf file")
    stand_ins.refuse(path)
    reader = _opened(path)
    kinds = sorted({tensor.tensor_type.name for tensor in reader.tensors})
    unknown = [kind for kind in kinds if kind not in _READ]
    if unknown:
        raise UserError(f"{path}: has tensors of {', '.join(unknown)}; only {', '.join(_READ)} are read")
    if not all(tensor.name.isprintable() for tensor in reader.tensors):
        raise UserError(f"{path}: has a tensor whose name cannot be printed; download it again")
    tensors: dict[str, Tensor] = {tensor.name: _lazy(tensor, _shape(reader, tensor, path)) for tensor in reader.tensors}
    return tensors, ", ".join(kinds)


def _opened(path: Path) -> "GGUFReader":
    try:
        from gguf import GGUFReader
    except ImportError:
        raise UserError(f"{path}: GGUF needs the package gguf; pip install gguf (or talkverse_jax[gguf])") from None
    try:
        reader = GGUFReader(path)
        if any(tensor.data.nbytes != tensor.n_bytes or not tensor.n_bytes for tensor in reader.tensors):
            raise ValueError("a tensor ends behind the file, or is none")
    except _BROKEN:
        raise UserError(f"{path}: cut short or damaged; download it again") from None
    return reader


def _shape(reader: "GGUFReader", tensor: "ReaderTensor", path: Path) -> tuple[int, ...]:
    stored = tuple(int(length) for length in reversed(tensor.shape))
    field = reader.get_field(_ORIGINAL_SHAPE + tensor.name)
    if field is None:
        return stored
    shape = tuple(int(length) for place in field.data for length in field.parts[place][:1])
    if min(shape, default=0) < 0 or np.prod([*shape], dtype=object) != np.prod([*stored], dtype=object):
        raise UserError(
            f"{path}: {tensor.name} is {list(stored)}, which cannot be {list(shape)[:8]}; download it again"
        )
    return shape


def _lazy(tensor: "ReaderTensor", shape: tuple[int, ...]) -> LazyTensor:
    has_rows = len(shape) > 1 and tuple(reversed(tensor.shape.tolist())) == shape

    def rows(part: slice) -> np.ndarray:
        if has_rows:
            return _dequantised(tensor.data[part], tensor.tensor_type, (-1, *shape[1:]))
        whole = _dequantised(tensor.data, tensor.tensor_type, shape)
        return whole[part] if shape else whole

    return LazyTensor(shape, np.dtype(np.float32), rows)


def _dequantised(data: np.ndarray, kind: Any, shape: tuple[int, ...]) -> np.ndarray:
    """The numbers of stored rows, in float32."""
    from gguf.quants import dequantize

    stored = data.reshape(-1, data.shape[-1]) if data.ndim else data.reshape(1, 1)
    width = dequantize(stored[:1], kind).shape[-1] if len(stored) else 0
    step = max(1, _BLOCK // max(1, width))
    numbers = np.empty((len(stored), width), np.float32)
    for start in range(0, len(stored), step):
        numbers[start : start + step] = dequantize(stored[start : start + step], kind)
    return numbers.reshape(shape)
