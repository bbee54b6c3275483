"""Quantised tensors of safetensors files: multiplied out where the file says by what, refused by name where not.

P.weight (fp8), P.scale_weight or P.weight_scale     ComfyUI's scaled fp8
P.weight._data, P.weight._scale                      quanto; which layers, a map beside the file says
"""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from talkverse_jax.core.errors import UserError
from talkverse_jax.weights import quanto
from talkverse_jax.weights.lazy import Tensor, scaled
from talkverse_jax.weights.safetensors_header import INSTEAD

FP8 = (np.dtype(ml_dtypes.float8_e4m3fn), np.dtype(ml_dtypes.float8_e5m2))

_SCALES = (".scale_weight", ".weight_scale")
_MARK = ".comfy_quant"
_PASSED_OVER = (".input_scale", ".scale_input", ".output_scale", _MARK)  # of the activations; how kernels run
_MARKER = "scaled_fp8"
_READ = ("float8_e4m3fn", "float8_e5m2")
_LAYERS = "_quantization_metadata"  # in the header: the same as the marks of all layers

# What gives a format away, by the ends of its names.
_REFUSED = {
    ".weight_scale_2": "NVFP4",
    ".weight_scale_inv": "fp8 with a scale for each block",
    ".quant_map": "bitsandbytes (4 bits)",
    ".absmax": "bitsandbytes (4 bits)",
    ".SCB": "bitsandbytes (8 bits)",
    ".weight_format": "bitsandbytes (8 bits)",
    ".qweight": "GPTQ, AWQ or SVDQuant",
    ".qzeros": "GPTQ or AWQ",
    ".weight_codebook": "four bits with a codebook",
}


@dataclasses.dataclass(frozen=True)
class Plain:
    """Tensors of numbers, whatever they were in the file.

    Attributes:
      tensors: by name.
      kind: what they were, for people; empty where they were just that.
      changed: whether something was multiplied out, or passed over.
      paths: what was read besides.
    """

    tensors: Mapping[str, Tensor]
    kind: str = ""
    changed: bool = False
    paths: tuple[Path, ...] = ()


def plain(
    tensors: Mapping[str, Tensor],
    metadata: Mapping[str, str],
    path: Path,
    prefix: str = "",
    map_path: str | Path | None = None,
) -> Plain:
    """The tensors of a file as numbers; what they were multiplied with is not among them.

    Args:
      metadata: of its header.
      path: of the file, for messages, and for the map beside it.
      prefix: what their names had before them in the file.
      map_path: quanto's map, where it is given; by default it lies beside the file.

    Raises:
      UserError: they are of a format that is not read.
    """
    _refuse(tensors, path)
    _refuse_layers(tensors, _json(metadata.get(_LAYERS, "{}").encode()).get("layers"), path, prefix)
    if quanto.is_quanto(tensors):
        found, read = quanto.plain(tensors, path, map_path)
        return Plain(found, "quanto", True, (read,))
    if map_path is not None:
        raise UserError(f"{path}: has no layers that quanto quantised, so {map_path} is not its map; leave it out")
    kept = {name: value for name, value in tensors.items() if not _is_beside(name)}
    scales = 0
    for name in tensors:
        ending = next((ending for ending in _SCALES if name.endswith(ending)), None)
        if ending is None:
            continue
        weight = f"{name.removesuffix(ending)}.weight"
        kept[weight] = _multiplied(kept.get(weight), tensors[name], name, path)
        scales += 1
    if scales:
        return Plain(kept, f"fp8 with scales ({scales})", True)
    raw = any(value.dtype in FP8 for value in kept.values())
    return Plain(kept, "fp8" if raw else "", len(kept) < len(tensors))


def _is_beside(name: str) -> bool:
    return name == _MARKER or name.endswith((*_SCALES, *_PASSED_OVER))


def _multiplied(weight: Tensor | None, scale: Tensor, name: str, path: Path) -> Tensor:
    if not isinstance(weight, np.ndarray):
        raise UserError(f"{path}: has {name} but not the weight that it scales; download it again")
    if scale.dtype.kind in "iub":
        raise UserError(f"{path}: {name} is of {scale.dtype}: MXFP8, which is not read; {INSTEAD}")
    if weight.dtype.kind in "iub":
        raise UserError(f"{path}: {name} scales {weight.dtype}, which is not read without a map; {INSTEAD}")
    try:
        return scaled(weight, np.asarray(scale))
    except ValueError as error:
        raise UserError(f"{path}: {name} is {error}, a scale for each block, which is not read; {INSTEAD}") from None


def _refuse(tensors: Mapping[str, Tensor], path: Path) -> None:
    for name, value in tensors.items():
        kind = next((kind for part, kind in _REFUSED.items() if name.endswith(part)), None)
        if kind or ".quant_state." in name:
            raise UserError(f"{path}: is quantised by {kind or 'bitsandbytes'} ({name}), which is not read; {INSTEAD}")
        if name.endswith(_MARK):
            _refuse_format(_json(np.asarray(value).tobytes()), name.removesuffix(_MARK), path)


def _refuse_layers(tensors: Mapping[str, Tensor], layers: Any, path: Path, prefix: str) -> None:
    """The same by what the header tells of layers; of other models', nothing."""
    for name, told in layers.items() if isinstance(layers, dict) else ():
        if f"{name.removeprefix(prefix)}.weight" in tensors:
            _refuse_format(told if isinstance(told, dict) else {"format": told}, name, path)


def _refuse_format(told: Mapping, name: str, path: Path) -> None:
    kind = str(told.get("format", "an unknown format"))[:40]
    if kind not in _READ or told.get("convrot"):
        turned = " with rotated rows" if told.get("convrot") else ""
        raise UserError(f"{path}: {ascii(name)[1:-1]} is of {ascii(kind)[1:-1]}{turned}, which is not read; {INSTEAD}")


def _json(text: bytes) -> dict:
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        values = None
    return values if isinstance(values, dict) else {}
