"""PyTorch `.pth` files written without PyTorch, tensor by tensor: for checkpoints with random weights.

What is written is what `torch.save` writes of an OrderedDict, and what `torch.load(weights_only=True)` takes.
"""

import struct
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import ml_dtypes
import numpy as np

from talkverse_jax.core.paths import replacing

_STORAGES = {
    np.dtype(np.float32): b"FloatStorage",
    np.dtype(np.float16): b"HalfStorage",
    np.dtype(ml_dtypes.bfloat16): b"BFloat16Storage",
    np.dtype(np.int64): b"LongStorage",
}

# Opcodes of pickle, protocol 2.
_PROTO, _STOP, _MARK, _SETITEMS, _TUPLE, _REDUCE, _EMPTY_TUPLE = (
    b"\x80\x02",
    b".",
    b"(",
    b"u",
    b"t",
    b"R",
    b")",
)
_PERSISTENT, _FALSE = b"Q", b"\x89"
_ORDERED_DICT = b"ccollections\nOrderedDict\n" + _EMPTY_TUPLE + _REDUCE


def write_torch(
    path: str | Path, shapes: Mapping[str, tuple[np.dtype, tuple[int, ...]]], tensors: Iterable[np.ndarray]
) -> None:
    """Write a file; one already there is replaced only once the new one is whole.

    Args:
      shapes: dtype and shape by name.
      tensors: in the same order.

    Raises:
      OSError: with the file's name.
    """
    root = Path(path).stem
    with replacing(Path(path)) as partial, zipfile.ZipFile(partial, "w") as archive:
        # a ZipInfo means: stored as it is, without today's date
        archive.writestr(zipfile.ZipInfo(f"{root}/data.pkl"), _pickle(shapes))
        archive.writestr(zipfile.ZipInfo(f"{root}/byteorder"), "little")
        for key, ((name, (dtype, shape)), value) in enumerate(zip(shapes.items(), tensors, strict=True)):
            if value.dtype != dtype or value.shape != shape:
                raise ValueError(f"{name}: {value.dtype}{value.shape}, not {dtype}{shape}")
            with archive.open(zipfile.ZipInfo(f"{root}/data/{key}"), "w", force_zip64=True) as file:
                file.write(np.ascontiguousarray(value).reshape(-1).view(np.uint8).data)
        archive.writestr(zipfile.ZipInfo(f"{root}/version"), "3\n")


def _pickle(shapes: Mapping[str, tuple[np.dtype, tuple[int, ...]]]) -> bytes:
    """An OrderedDict of rebuilt tensors, each on a storage of its own."""
    items = b"".join(
        _text(name) + _tensor(str(key), dtype, shape) for key, (name, (dtype, shape)) in enumerate(shapes.items())
    )
    return _PROTO + _ORDERED_DICT + _MARK + items + _SETITEMS + _STOP


def _tensor(key: str, dtype: np.dtype, shape: tuple[int, ...]) -> bytes:
    size = int(np.prod(shape))
    strides = [int(np.prod(shape[axis + 1 :])) for axis in range(len(shape))]
    storage = _tuple(_text("storage"), b"ctorch\n" + _STORAGES[dtype] + b"\n", _text(key), _text("cpu"), _int(size))
    arguments = _tuple(
        storage + _PERSISTENT,
        _int(0),
        _tuple(*map(_int, shape)),
        _tuple(*map(_int, strides)),
        _FALSE,
        _ORDERED_DICT,
    )
    return b"ctorch._utils\n_rebuild_tensor_v2\n" + arguments + _REDUCE


def _tuple(*items: bytes) -> bytes:
    return _MARK + b"".join(items) + _TUPLE


def _text(value: str) -> bytes:
    encoded = value.encode()
    return b"X" + struct.pack("<I", len(encoded)) + encoded


def _int(value: int) -> bytes:
    return b"\x8a\x08" + struct.pack("<q", value)  # a long of eight bytes
