"""The header of a safetensors file, read as if somebody meant harm: JSON {name: {dtype, shape, data_offsets}}.

Whatever it says has been checked when `parse_header` returns: each tensor's bytes are as many as its shape needs, and
all of them together are the data, each once.
"""

import dataclasses
import json
import math
from collections import Counter
from typing import Any

import ml_dtypes
import numpy as np

MAX_BYTES = 16 * 1024**2  # a hundred thousand tensors, and what other programs put into the metadata
_MAX_NAME = 512
_MAX_AXES = 64  # numpy's own
METADATA = "__metadata__"

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
# Of the format too, and of no use here: what they are.
OTHERS = {
    "F8_E8M0": "the scales of an MX format (MXFP8, MXFP4)",
    "F4": "4-bit numbers of an MX format or NVFP4",
    "F4_E2M1": "4-bit numbers of an MX format or NVFP4",
    "F6_E2M3": "6-bit numbers of an MX format",
    "F6_E3M2": "6-bit numbers of an MX format",
    "F8_E4M3FNUZ": "8-bit numbers of AMD's kind",
    "F8_E5M2FNUZ": "8-bit numbers of AMD's kind",
    "C64": "complex numbers",
}


INSTEAD = "give the model in bfloat16, float16, float32, fp8 or GGUF"  # of a kind that is not read


class HeaderError(ValueError):
    """What is wrong with a header, in one line without the file's name, and what to do."""

    def __init__(self, reason: str, remedy: str = "download it again"):
        super().__init__(reason)
        self.remedy = remedy


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
      HeaderError: it is damaged, or lists tensors of which data would overlap or leave holes.
    """
    places = {name: _place(name, value) for name, value in _table(header).items() if name != METADATA}
    places = dict(sorted(places.items(), key=lambda item: (item[1].start, item[1].end)))
    end = 0
    for name, place in places.items():
        if place.start != end:
            what = "overlaps the tensor before it" if place.start < end else "leaves a hole before it"
            raise HeaderError(f"{_shown(name)} {what}")
        end = place.end
    return places


def read_metadata(header: str) -> dict[str, str]:
    """What a writer put beside the tensors, such as `{"format": "pt"}`.

    Raises:
      HeaderError: it is damaged.
    """
    metadata = _table(header).get(METADATA, {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise HeaderError("its metadata are no table of texts")
    return metadata


def _table(header: str) -> dict[str, Any]:
    try:
        table = json.loads(header, object_pairs_hook=_without_repeats)
    except HeaderError:
        raise
    except RecursionError:
        raise HeaderError("it is nested too deeply") from None
    except ValueError as error:  # of JSON, or a number of more digits than Python takes
        raise HeaderError(f"it is not JSON ({str(error)[:100]})") from None
    if not isinstance(table, dict):
        raise HeaderError("it is not a table of tensors")
    return table


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        [(twice, _)] = Counter(name for name, _ in pairs).most_common(1)
        raise HeaderError(f"it has {_shown(twice)} twice")
    return table


def _place(name: str, value: Any) -> TensorPlace:
    if len(name) > _MAX_NAME or not name.isprintable():
        raise HeaderError(f"the name {_shown(name)} is no tensor's")
    if not isinstance(value, dict) or not {"dtype", "shape", "data_offsets"} <= value.keys():
        raise HeaderError(f"{_shown(name)} lacks its dtype, shape or data_offsets")
    dtype, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPES:
        kind = OTHERS.get(dtype) if isinstance(dtype, str) else None
        if kind:
            raise HeaderError(f"{_shown(name)} is of {dtype}, {kind}, which are not read", INSTEAD)
        raise HeaderError(f"{_shown(name)} is of dtype {_shown(dtype)}, which is unknown")
    if not _are_sizes(shape, _MAX_AXES):
        raise HeaderError(f"{_shown(name)} has the shape {_shown(shape)}")
    if not _are_sizes(offsets, 2) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise HeaderError(f"{_shown(name)} has the data_offsets {_shown(offsets)}")
    itemsize = DTYPES[dtype].itemsize
    if itemsize * math.prod(length or 1 for length in shape) >= 2**63:
        raise HeaderError(f"{_shown(name)} has the shape {_shown(shape)}")
    if offsets[1] - offsets[0] != itemsize * math.prod(shape):
        raise HeaderError(
            f"{_shown(name)} has {offsets[1] - offsets[0]:,} bytes, its shape {_shown(shape)} needs "
            f"{itemsize * math.prod(shape):,}"
        )
    return TensorPlace(DTYPES[dtype], tuple(shape), *offsets)


def _are_sizes(values: Any, most: int) -> bool:
    """Whether these are so many numbers, at most, that count something; `type` because True is an `int`."""
    if not isinstance(values, list) or len(values) > most:
        return False
    return all(type(value) is int and 0 <= value < 2**63 for value in values)


def _shown(value: Any) -> str:
    """A value in one short line."""
    if isinstance(value, str) and value.isprintable() and len(value) <= 100:
        return value
    try:
        text = ascii(value)
    except (RecursionError, ValueError):  # of thousands of digits
        text = type(value).__name__
    return text if len(text) <= 60 else f"{text[:60]}..."
