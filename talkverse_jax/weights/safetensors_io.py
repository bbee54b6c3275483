"""safetensors files: mapped for reading, streamed for writing; single, in shards, with or without an index.

A file is a length (8 bytes, little-endian), a JSON header {name: {dtype, shape, data_offsets}} and the data.
"""

import dataclasses
import json
import math
import mmap
import re
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from talkverse_jax.core.errors import UserError, naming
from talkverse_jax.core.paths import existing_file

_AGAIN = "download it again"
DTYPES = {
    "F64": np.dtype(np.float64),
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "F8_E4M3": np.dtype(ml_dtypes.float8_e4m3fn),
    "F8_E5M2": np.dtype(ml_dtypes.float8_e5m2),
    "I64": np.dtype(np.int64),
    "I32": np.dtype(np.int32),
    "I16": np.dtype(np.int16),
    "I8": np.dtype(np.int8),
    "U64": np.dtype(np.uint64),
    "U32": np.dtype(np.uint32),
    "U16": np.dtype(np.uint16),
    "U8": np.dtype(np.uint8),
    "BOOL": np.dtype(np.bool_),
}


@dataclasses.dataclass(frozen=True)
class SafetensorsFile:
    """An opened file.

    Attributes:
      path: of the file.
      header: its JSON header as it stands in the file.
      tensors: views of the mapped file by name (read-only).
    """

    path: Path
    header: str
    tensors: dict[str, np.ndarray]


def read_file(path: str | Path) -> SafetensorsFile:
    """Map a file.

    Raises:
      UserError: missing, not safetensors, or truncated (told from its size, before any tensor is read).
    """
    path = existing_file(path, "a .safetensors file")
    size = path.stat().st_size
    with path.open("rb") as file:
        try:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > size - 8:
                raise ValueError("no room for a header")
            header = file.read(length).decode()
            entries = parse_header(header)
        except (struct.error, ValueError, KeyError, TypeError, AttributeError):
            raise UserError(f"{path}: not a safetensors file, or truncated; {_AGAIN}") from None
        needed = 8 + length + max((entry.end for entry in entries.values()), default=0)
        if size != needed:
            raise UserError(f"{path}: {size:,} bytes long, {needed:,} by its header (truncated?); {_AGAIN}")
        mapped = np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), np.uint8)[8 + length :]
    tensors = {
        name: mapped[entry.start : entry.end].view(entry.dtype).reshape(entry.shape) for name, entry in entries.items()
    }
    return SafetensorsFile(path, header, tensors)


@dataclasses.dataclass(frozen=True)
class TensorPlace:
    """Where a tensor lies behind the header."""

    dtype: np.dtype
    shape: tuple[int, ...]
    start: int
    end: int


def parse_header(header: str) -> dict[str, TensorPlace]:
    """The tensors a header lists, in the order of their data.

    Raises:
      ValueError, KeyError, TypeError, AttributeError: it is damaged.
    """
    entries = {}
    for name, value in json.loads(header).items():
        if name != "__metadata__":
            entry = TensorPlace(DTYPES[value["dtype"]], tuple(value["shape"]), *value["data_offsets"])
            if entry.start < 0 or entry.end - entry.start != entry.dtype.itemsize * math.prod(entry.shape):
                raise ValueError(f"{name}: offsets and shape disagree")
            entries[name] = entry
    return dict(sorted(entries.items(), key=lambda item: (item[1].start, item[1].end)))


def read_shards(folder: str | Path, stem: str) -> list[SafetensorsFile]:
    """Map a model published as `STEM.safetensors`, or in shards `STEM-0000X-of-0000N.safetensors`.

    Raises:
      UserError: a shard is missing (by the index file, or by the count in the names) or damaged, or a tensor
        is not in the shard the index names.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; give the folder of the published checkpoint")
    index = index_file(folder, stem)
    if index.is_file():
        shards_by_name = read_index(index)
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
    try:
        shards = json.loads(path.read_text())["weight_map"]
        if not all(Path(name).name == name for name in shards.values()):
            raise ValueError("a path")
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UserError(f"{path}: not an index of safetensors shards; delete it and {_AGAIN}") from None
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
    header: dict[str, Any] = {"__metadata__": metadata}
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
