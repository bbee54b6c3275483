"""Tensors of a PyTorch `.pth` file as mapped numpy views, without PyTorch.

Such a file is a zip of a pickle and of raw storages. A pickle can name any function and have it called, so
only the few names that tensors need are known here, and each stands for code of ours.
"""

import math
import mmap
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from talkverse_jax.core.errors import UserError
from talkverse_jax.core.paths import existing_file
from talkverse_jax.weights import plain_pickle, stand_ins

_AGAIN = "get the file from its publisher again"
_DTYPES = {
    "DoubleStorage": np.float64,
    "FloatStorage": np.float32,
    "HalfStorage": np.float16,
    "BFloat16Storage": ml_dtypes.bfloat16,
    "LongStorage": np.int64,
    "IntStorage": np.int32,
    "ShortStorage": np.int16,
    "CharStorage": np.int8,
    "ByteStorage": np.uint8,
    "BoolStorage": np.bool_,
}
_NESTED = ("state_dict", "model", "module")  # keys under which training programs put the tensors
_MAX_NESTING = 4
_MAX_LIST_BYTES = 4 * 1024**2  # a list of ten thousand tensors
_LOCAL_HEADER = struct.Struct("<4s22xHH")  # signature, lengths of the name and of the extra field
_ZIP_END, _ZIP_END_WITHIN = b"PK\x05\x06", 22 + 2**16  # of a whole one, and how far from its end at most
_BAD_ZIP = (zipfile.BadZipFile, struct.error, ArithmeticError, LookupError, NotImplementedError, ValueError)


def read_torch(path: str | Path) -> dict[str, np.ndarray]:
    """The tensors of a `.pth` file by name, as read-only views of the mapped file; shared storages stay so.

    Raises:
      UserError: the file is missing, truncated, of PyTorch before 1.6, compressed, or holds anything but
        tensors in dicts, or a tensor that reaches outside its storage.
    """
    path = existing_file(path, "a .pth file")
    stand_ins.refuse(path)
    with path.open("rb") as file:
        magic = file.read(4)
        if magic[:2] == b"\x80\x02":
            raise UserError(f"{path}: written in PyTorch's format of before 1.6; save it again with a newer PyTorch")
        if magic != b"PK\x03\x04":
            raise UserError(f"{path}: not a PyTorch file; {_AGAIN}")
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    try:
        archive = _Archive(path, mapped)
        data = archive.member("data.pkl")
        if len(data) > _MAX_LIST_BYTES:
            raise UserError(f"{path}: its list of tensors is {len(data):,} bytes long, more than is read; {_AGAIN}")
        rebuilt = _Tensors(archive)
        tree = plain_pickle.load(data.tobytes(), rebuilt.find, rebuilt.stored)
    except plain_pickle.PickleError as error:
        reason = "".join(filter(str.isprintable, str(error)))
        raise UserError(f"{path}: its list of tensors is damaged ({reason}); {_AGAIN}") from None
    except (*_BAD_ZIP, OSError):
        what = "damaged" if _ZIP_END in mapped[-_ZIP_END_WITHIN:] else "cut short"
        raise UserError(f"{path}: {what}; {_AGAIN}") from None
    return _tensors(tree, path)


def _tensors(tree: Any, path: Path) -> dict[str, np.ndarray]:
    for _ in range(_MAX_NESTING):
        if not isinstance(tree, Mapping):
            break
        inner = next((tree[key] for key in _NESTED if isinstance(tree.get(key), Mapping)), None)
        if inner is None:
            found = {name: leaf for name, leaf in tree.items() if isinstance(leaf, np.ndarray)}
            if not all(isinstance(name, str) and name.isprintable() for name in found):
                raise UserError(f"{path}: has a tensor whose name is no text; {_AGAIN}")
            if found:
                return found
            break
        tree = inner
    raise UserError(f"{path}: holds no tensors by name; {_AGAIN}")


class _Archive:
    """The members of the zip, as views of the mapped file."""

    def __init__(self, path: Path, mapped: mmap.mmap):
        self.path = path
        self._bytes = np.frombuffer(mapped, np.uint8)
        with zipfile.ZipFile(path) as file:
            self._members = {info.filename: info for info in file.infolist()}
        pickles = [name for name in self._members if name.endswith("/data.pkl") and name.count("/") == 1]
        if len(pickles) != 1:
            raise UserError(f"{path}: a zip, but not one that PyTorch wrote; {_AGAIN}")
        self._root = pickles[0].removesuffix("data.pkl")
        if self._root + "byteorder" in self._members and self.member("byteorder").tobytes() != b"little":
            raise UserError(f"{path}: written on a big-endian machine; save it again on another")

    @property
    def nbytes(self) -> int:
        """Of the whole file."""
        return len(self._bytes)

    def member(self, name: str) -> np.ndarray:
        """The bytes of `name`."""
        info = self._members[self._root + name]
        if info.compress_type != zipfile.ZIP_STORED:
            raise UserError(f"{self.path}: compressed, so it cannot be mapped; {_AGAIN}")
        header = self._bytes[info.header_offset : info.header_offset + _LOCAL_HEADER.size].tobytes()
        signature, name_length, extra_length = _LOCAL_HEADER.unpack(header)
        start = info.header_offset + _LOCAL_HEADER.size + name_length + extra_length
        if signature != b"PK\x03\x04" or start + info.file_size > len(self._bytes):
            raise zipfile.BadZipFile(name)
        return self._bytes[start : start + info.file_size]


class _Tensors:
    """What a list of tensors may name: tensors, their storages, and the containers of a state dict."""

    def __init__(self, archive: _Archive):
        self._archive = archive
        self._storages: dict[str, np.ndarray] = {}
        self._known: dict[tuple[str, str], Any] = {
            ("collections", "OrderedDict"): lambda: OrderedDict(),
            ("torch._utils", "_rebuild_tensor_v2"): self._tensor,
            ("torch._utils", "_rebuild_parameter"): lambda data, requires_grad, hooks: data,
            ("torch", "Size"): lambda sizes: tuple(sizes),
        } | {("torch", name): np.dtype(dtype) for name, dtype in _DTYPES.items()}

    def find(self, module: str, name: str) -> Any:
        """What stands for a function or class.

        Raises:
          UserError: it is none of those that are known.
        """
        known = self._known.get((module, name))
        if known is None:
            named = ascii(f"{module}.{name}")[1:-1][:100]
            raise UserError(f"{self._archive.path}: holds code ({named}); only tensors are read. {_AGAIN.capitalize()}")
        return known

    def stored(self, identity: Any) -> np.ndarray:
        """The storage that a tensor lies in."""
        kind, dtype, key, _, size = identity
        if kind != "storage" or not isinstance(dtype, np.dtype) or not isinstance(key, str):
            raise plain_pickle.PickleError("an unknown kind of storage")
        if key not in self._storages:
            data = self._archive.member(f"data/{key}")
            if len(data) != size * dtype.itemsize:
                raise plain_pickle.PickleError(f"storage {key[:20]} has {len(data)} bytes, not {size * dtype.itemsize}")
            self._storages[key] = data.view(dtype)
        return self._storages[key]

    def _tensor(self, storage, offset, shape, strides, requires_grad=False, hooks=None, metadata=None) -> np.ndarray:
        if metadata or not isinstance(storage, np.ndarray):
            raise plain_pickle.PickleError("a tensor of an unknown kind")
        if any(type(number) is not int for number in (offset, *shape, *strides)):
            raise plain_pickle.PickleError("a tensor whose shape is not of whole numbers")
        last = offset + sum((length - 1) * stride for length, stride in zip(shape, strides, strict=True))
        if min((offset, *shape, *strides)) < 0 or (0 not in shape and last >= len(storage)):
            raise plain_pickle.PickleError(f"a tensor of {list(shape)[:8]} reaches outside its storage")
        # an axis of stride 0 repeats what is there: fine for a few numbers, not for 2**60
        if math.prod(shape) * storage.itemsize > self._archive.nbytes:
            raise plain_pickle.PickleError(f"a tensor of {list(shape)[:8]} repeats {len(storage)} numbers")
        strides = [stride * storage.itemsize for stride in strides]
        return np.lib.stride_tricks.as_strided(storage[offset:], shape, strides, writeable=False)
