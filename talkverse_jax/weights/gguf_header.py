"""The header of a GGUF file (versions 2 and 3, little-endian), read as if somebody meant harm.

    "GGUF"  u32 version  u64 tensors  u64 fields
    a field:   string name, u32 type, value
    a tensor:  string name, u32 axes, u64 lengths (the shortest stride first), u32 kind, u64 place behind the header

A string is a u64 length and its bytes, an array a u32 type, a u64 length and its values. The data begin at the next
multiple of `general.alignment`. Lists of a tokenizer, which may be long, are walked over.
"""

import dataclasses
import math
import struct
from collections.abc import Mapping
from typing import Any

_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_ALIGNMENT = "general.alignment"
_MAX_AXES = 8
_MAX_DEPTH = 4  # of arrays in arrays
_MAX_KEPT = 64  # values of an array; longer ones are walked over


@dataclasses.dataclass(frozen=True)
class StoredTensor:
    """A tensor as the header has it.

    Attributes:
      shape: the longest stride first, as NumPy has it.
      kind: the number that ggml gives it.
      start: of its data in the file, in bytes.
    """

    name: str
    shape: tuple[int, ...]
    kind: int
    start: int


@dataclasses.dataclass(frozen=True)
class Header:
    """All that is said before the data.

    Attributes:
      fields: numbers, strings and short arrays by name.
    """

    fields: Mapping[str, Any]
    tensors: tuple[StoredTensor, ...]


def parse(data: memoryview) -> Header:
    """The header of a file.

    Args:
      data: all of the file.

    Raises:
      ValueError: the header says what cannot be, or ends behind the file.
    """
    walk = _Walk(data)
    magic, version, tensors, count = walk.unpack("4sIQQ")
    if magic != b"GGUF" or version not in (2, 3):
        raise ValueError(f"version {version}")
    fields: dict[str, Any] = {}
    for _ in range(count):
        name = walk.string()
        if name in fields:
            raise ValueError("a field is there twice")
        fields[name] = walk.value(walk.unpack("I")[0])
    found = [_tensor(walk) for _ in range(tensors)]
    if len({each.name for each in found}) < len(found):
        raise ValueError("a tensor is there twice")
    alignment = fields.get(_ALIGNMENT, 32)
    if type(alignment) is not int or alignment < 1 or alignment & alignment - 1:
        raise ValueError(f"an alignment of {alignment}")
    begin = -(-walk.place // alignment) * alignment
    return Header(fields, tuple(dataclasses.replace(each, start=begin + each.start) for each in found))


def _tensor(walk: "_Walk") -> StoredTensor:
    """Its start is counted from where the data begin."""
    name, [axes] = walk.string(), walk.unpack("I")
    if axes > _MAX_AXES:
        raise ValueError(f"{axes} axes")
    return StoredTensor(name, tuple(reversed(walk.unpack(f"{axes}Q"))), *walk.unpack("IQ"))


class _Walk:
    """Reads one thing after the other.

    Attributes:
      place: of the next.
    """

    def __init__(self, data: memoryview):
        self._data, self.place = data, 0

    def unpack(self, form: str) -> tuple[Any, ...]:
        return struct.unpack(f"<{form}", self._take(struct.calcsize(f"<{form}")))

    def string(self) -> str:
        return str(self._take(*self.unpack("Q")), "utf-8")

    def value(self, kind: int, depth: int = 0) -> Any:
        if kind == _STRING:
            return self.string()
        if kind in _SCALARS:
            return self.unpack(_SCALARS[kind])[0]
        if kind != _ARRAY or depth == _MAX_DEPTH:
            raise ValueError(f"a field of type {kind}")
        inner, length = self.unpack("IQ")
        if inner in _SCALARS and length > _MAX_KEPT:
            self._take(length * struct.calcsize(f"<{_SCALARS[inner]}"))
            return None
        kept = []
        for place in range(length):
            each = self.value(inner, depth + 1)
            if place < _MAX_KEPT:
                kept.append(each)
        return kept

    def _take(self, length: int) -> memoryview:
        taken = self._data[self.place : self.place + length]
        if len(taken) < length:
            raise ValueError("it ends behind the file")
        self.place += length
        return taken


def size(shape: tuple[int, ...], block: int, block_bytes: int) -> tuple[int, ...]:
    """The shape of a tensor's bytes; its last axis is of whole blocks.

    Raises:
      ValueError: they are not whole, or there are none.
    """
    width = shape[-1] if shape else 1
    if not math.prod(shape) or width % block:
        raise ValueError(f"{shape}, in blocks of {block}")
    return (*shape[:-1], width // block * block_bytes)
