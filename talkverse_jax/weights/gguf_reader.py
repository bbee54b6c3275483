"""Tensors of GGUF files, dequantised a block of rows at a time. Needs the package `gguf`."""

import math
import mmap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import UInt8

from talkverse_jax.core.errors import UserError, brief
from talkverse_jax.core.paths import existing_file
from talkverse_jax.weights import gguf_header, stand_ins
from talkverse_jax.weights.lazy import LazyTensor, Tensor

if TYPE_CHECKING:
    from gguf import GGMLQuantizationType

MAGIC = b"GGUF"
_READ = ("F32", "F16", "BF16", "Q8_0", "Q4_K", "Q5_K", "Q6_K")
_ORIGINAL_SHAPE = "comfy.gguf.orig_shape."  # before a writer gave it rows that its blocks divide
_BLOCK = 1024**2  # numbers dequantised at once; K-quants take eight times their room meanwhile


def read_gguf(path: str | Path) -> tuple[dict[str, Tensor], str]:
    """The tensors of a file by name, in float32 when they are read, and their kinds for people: "Q4_K, Q8_0".

    Raises:
      UserError: the file is missing, damaged, cut short, or of a kind that is not read, or `gguf` is not installed.
    """
    path = existing_file(path, "a .gguf file")
    stand_ins.refuse(path)
    data, header = _opened(path)
    kinds = _kinds(header, path)
    names = sorted({kind.name for kind in kinds.values()})
    if unknown := [name for name in names if name not in _READ]:
        raise UserError(f"{path}: has tensors of {', '.join(unknown)}; only {', '.join(_READ)} are read")
    if not all(tensor.name.isprintable() for tensor in header.tensors):
        raise UserError(f"{path}: has a tensor whose name cannot be printed; download it again")
    tensors: dict[str, Tensor] = {}
    for tensor in header.tensors:
        kind = kinds[tensor.name]
        tensors[tensor.name] = _lazy(
            _stored(data, tensor, kind, path), tensor.shape, kind, _shape(header, tensor, path)
        )
    return tensors, ", ".join(names)


def _opened(path: Path) -> tuple[UInt8[np.ndarray, " bytes"], gguf_header.Header]:
    """All of the file, mapped, and its header."""
    try:
        with path.open("rb") as file:
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return np.frombuffer(data, np.uint8), gguf_header.parse(memoryview(data))
    except (ValueError, OverflowError):
        raise _broken(path) from None


def _kinds(header: gguf_header.Header, path: Path) -> dict[str, "GGMLQuantizationType"]:
    try:
        from gguf import GGMLQuantizationType
    except ImportError:
        raise UserError(f"{path}: GGUF needs the package gguf; pip install gguf (or talkverse_jax[gguf])") from None
    try:
        return {tensor.name: GGMLQuantizationType(tensor.kind) for tensor in header.tensors}
    except ValueError:
        raise _broken(path) from None


def _broken(path: Path) -> UserError:
    return UserError(f"{path}: cut short or damaged; download it again")


def _stored(
    data: UInt8[np.ndarray, " bytes"], tensor: gguf_header.StoredTensor, kind: "GGMLQuantizationType", path: Path
) -> UInt8[np.ndarray, "... row"]:
    """The bytes of a tensor, where they are in the file."""
    from gguf import GGML_QUANT_SIZES

    try:
        shape = gguf_header.size(tensor.shape, *GGML_QUANT_SIZES[kind])
        return data[tensor.start :][: math.prod(shape)].reshape(shape)
    except (ValueError, OverflowError):
        raise _broken(path) from None


def _shape(header: gguf_header.Header, tensor: gguf_header.StoredTensor, path: Path) -> tuple[int, ...]:
    shape = header.fields.get(_ORIGINAL_SHAPE + tensor.name)
    if shape is None:
        return tensor.shape
    right = isinstance(shape, list) and all(type(length) is int and length >= 0 for length in shape)
    if not right or math.prod(shape) != math.prod(tensor.shape):
        raise UserError(
            f"{path}: {tensor.name} is {list(tensor.shape)}, which cannot be {brief(shape)}; download it again"
        )
    return tuple(shape)


def _lazy(
    stored: UInt8[np.ndarray, "... row"], own: tuple[int, ...], kind: "GGMLQuantizationType", shape: tuple[int, ...]
) -> LazyTensor:
    """Args:
    own: the tensor's shape in the file.
    shape: the one that it is to have.
    """
    has_rows = len(shape) > 1 and own == shape

    def rows(part: slice) -> np.ndarray:
        if has_rows:
            return _dequantised(stored[part], kind, (-1, *shape[1:]))
        whole = _dequantised(stored, kind, shape)
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
