"""safetensors files: mapped for reading, streamed for writing; single, in shards, with or without an index.

A file is a length (8 bytes, little-endian), a JSON header (`safetensors_header.py`) and the data.
"""

import dataclasses
import json
import math
import mmap
import re
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from talkverse_jax.core.errors import UserError, naming
from talkverse_jax.core.paths import existing_file
from talkverse_jax.weights import stand_ins
from talkverse_jax.weights.json_table import read_table
from talkverse_jax.weights.safetensors_header import (
    DTYPES,
    MAX_BYTES,
    METADATA,
    HeaderError,
    parse_header,
    read_metadata,
)

_AGAIN = "download it again"


@dataclasses.dataclass(frozen=True)
class SafetensorsFile:
    """An opened file.

    Attributes:
      path: of the file.
      header: its JSON header as it stands in the file.
      metadata: what a writer put beside the tensors, such as `{"format": "pt"}`.
      tensors: views of the mapped file by name (read-only).
    """

    path: Path
    header: str
    metadata: dict[str, str]
    tensors: dict[str, np.ndarray]


def read_file(path: str | Path) -> SafetensorsFile:
    """Map a file.

    Raises:
      UserError: missing, a pointer or a page in its place, not safetensors, damaged, or cut short (told from its size,
        before any tensor is read).
    """
    path = existing_file(path, "a .safetensors file")
    stand_ins.refuse(path)
    size = path.stat().st_size
    with path.open("rb") as file:
        header = _read_header(file, size, path)
        begin = 8 + len(header.encode())
        try:
            places, metadata = parse_header(header), read_metadata(header)
        except HeaderError as error:
            raise UserError(f"{path}: its header cannot be read: {error}; {error.remedy}") from None
        needed = begin + max((place.end for place in places.values()), default=0)
        if size != needed:
            what = "cut short" if size < needed else "it has too much"
            raise UserError(f"{path}: {size:,} bytes long, {needed:,} by its header: {what}; {_AGAIN}")
        mapped = np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), np.uint8)[begin:]
    tensors = {
        name: mapped[place.start : place.end].view(place.dtype).reshape(place.shape) for name, place in places.items()
    }
    return SafetensorsFile(path, header, metadata, tensors)


def _read_header(file: BinaryIO, size: int, path: Path) -> str:
    first = file.read(9)
    length = int.from_bytes(first[:8], "little")
    if len(first) < 9 or first[8:] != b"{":
        raise UserError(f"{path}: not a safetensors file; give one, or {_AGAIN}")
    if length > MAX_BYTES:
        raise UserError(f"{path}: not a safetensors file, or its header of {length:,} bytes is too long; give another")
    if length > size - 8:
        raise UserError(f"{path}: cut short within its header; {_AGAIN}")
    try:
        return (first[8:] + file.read(length - 1)).decode()
    except UnicodeDecodeError:
        raise UserError(f"{path}: its header cannot be read: it is not UTF-8; {_AGAIN}") from None


def read_shards(folder: str | Path, stem: str, passed_over: tuple[str, ...] = ()) -> list[SafetensorsFile]:
    """Map a model published as `STEM.safetensors`, or in shards `STEM-0000X-of-0000N.safetensors`.

    Args:
      passed_over: files that the index may name besides.

    Raises:
      UserError: a shard is missing (by the index file, or by the count in the names) or damaged, or a tensor
        is not in the shard the index names.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; give the folder of the published checkpoint")
    index = index_file(folder, stem)
    if index.is_file():
        shards_by_name = {name: file for name, file in read_index(index).items() if file not in passed_over}
        files = [read_file(folder / name) for name in sorted(set(_present(folder, shards_by_name.values())))]
        held = {name: file.path.name for file in files for name in file.tensors}
        for name, shard in shards_by_name.items():
            if held.get(name) != shard:
                raise UserError(f"{folder / shard}: lacks {name}, which {index.name} promises; {_AGAIN}")
    elif (single := folder / f"{stem}.safetensors").is_file():
        return [read_file(single)]
    else:
        names = [path.name for path in folder.glob(f"{stem}-*-of-*.safetensors")]
        counts = {int(found[1]) for name in names if (found := re.search(r"-of-(\d+)\.safetensors$", name))}
        if not counts:
            raise UserError(f"{folder}: no {stem}*.safetensors; give the folder of the published checkpoint")
        wanted = [f"{stem}-{i:05d}-of-{max(counts):05d}.safetensors" for i in range(1, max(counts) + 1)]
        files = [read_file(folder / name) for name in _present(folder, wanted)]
    merge(files)  # for its check
    return files


def index_file(folder: Path, stem: str) -> Path:
    """Where the index of a model in shards lies."""
    return folder / f"{stem}.safetensors.index.json"


def read_index(path: Path) -> dict[str, str]:
    """The shard of each tensor, by an index.

    Raises:
      UserError: it is damaged.
    """
    shards = read_table(path).get("weight_map")
    if not isinstance(shards, dict) or not all(isinstance(n, str) and Path(n).name == n for n in shards.values()):
        raise UserError(f"{path}: not an index of safetensors shards; delete it and {_AGAIN}")
    return shards


def _present(folder: Path, names: Iterable[str]) -> list[str]:
    names = list(names)
    missing = sorted({name for name in names if not (folder / name).is_file()})
    if missing:
        raise UserError(f"{folder / missing[0]}: missing ({len(missing)} of the shards are); download it")
    return names


def merge(files: Iterable[SafetensorsFile]) -> dict[str, np.ndarray]:
    """The tensors of all files.

    Raises:
      UserError: two files have one of the same name.
    """
    tensors: dict[str, np.ndarray] = {}
    for file in files:
        twice = tensors.keys() & file.tensors.keys()
        if twice:
            raise UserError(f"{file.path}: {min(twice)} is in another shard too; {_AGAIN}")
        tensors.update(file.tensors)
    return tensors


def make_header(shapes: Mapping[str, tuple[np.dtype, tuple[int, ...]]], metadata: dict[str, str]) -> str:
    """A header for tensors of these dtypes and shapes, one behind the other."""
    names = {dtype: name for name, dtype in DTYPES.items()}
    header: dict[str, Any] = {METADATA: metadata}
    start = 0
    for name, (dtype, shape) in shapes.items():
        end = start + dtype.itemsize * math.prod(shape)
        header[name] = {"dtype": names[dtype], "shape": list(shape), "data_offsets": [start, end]}
        start = end
    text = json.dumps(header, separators=(",", ":"))
    return text + " " * (-len(text.encode()) % 8)  # the data begin at a multiple of 8


def write_file(path: str | Path, header: str, tensors: Iterable[np.ndarray]) -> None:
    """Write a file, tensor by tensor.

    Args:
      tensors: in the order of `parse_header`.

    Raises:
      OSError: with the file's name.
    """
    encoded = header.encode()
    with naming(path), Path(path).open("wb") as file:
        file.write(struct.pack("<Q", len(encoded)) + encoded)
        for (name, entry), value in zip(parse_header(header).items(), tensors, strict=True):
            if value.dtype != entry.dtype or value.shape != entry.shape:
                raise ValueError(f"{name}: {value.dtype}{value.shape}, not {entry.dtype}{entry.shape}")
            file.write(np.ascontiguousarray(value).reshape(-1).view(np.uint8).data)
