"""Layers that optimum-quanto wrote: `P.weight._data` [out, in] of int8 or fp8 and `P.weight._scale` [out, 1]. Which
layers are such, a map beside the file says: {"P": {"weights": "qint8", "activations": "none"}}."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from talkverse_jax.core.errors import UserError
from talkverse_jax.core.paths import existing_file
from talkverse_jax.weights.json_table import read_table
from talkverse_jax.weights.lazy import Tensor, scaled

DATA, SCALE = ".weight._data", ".weight._scale"
_PASSED_OVER = (".input_scale", ".output_scale")  # of activations, which stay as they are
_DTYPES = {
    "qint8": np.dtype(np.int8),
    "qfloat8": np.dtype(ml_dtypes.float8_e4m3fn),
    "qfloat8_e4m3fn": np.dtype(ml_dtypes.float8_e4m3fn),
    "qfloat8_e5m2": np.dtype(ml_dtypes.float8_e5m2),
}
_MAX_BYTES = 16 * 1024**2


def is_quanto(tensors: Mapping[str, Tensor]) -> bool:
    """Whether a file has such layers."""
    return any(name.endswith(DATA) for name in tensors)


def plain(tensors: Mapping[str, Tensor], path: Path, given: str | Path | None = None) -> tuple[dict[str, Tensor], Path]:
    """The tensors of a file with its layers multiplied out, and the map that was read.

    Args:
      given: the map; by default the one beside the file that is of just these layers.

    Raises:
      UserError: there is no map of these layers, or it tells of what is not read, or a layer lacks its scale.
    """
    layers = {name.removesuffix(DATA) for name in tensors if name.endswith(DATA)}
    map_path, told = _map_beside(path, layers) if given is None else _map_given(path, Path(given), layers)
    kept = {name: value for name, value in tensors.items() if not name.endswith((DATA, SCALE, *_PASSED_OVER))}
    for layer in sorted(layers):
        kept[f"{layer}.weight"] = _multiplied(tensors, layer, told[layer], f"{path} with {map_path.name}: {layer}")
    return kept, map_path


def _multiplied(tensors: Mapping[str, Tensor], layer: str, told: Mapping[str, Any], where: str) -> Tensor:
    weights, activations = told.get("weights"), told.get("activations", "none")
    if weights not in _DTYPES or activations != "none":
        raise UserError(
            f"{where} is of {weights} with activations {activations}; only {', '.join(_DTYPES)} without are read"
        )
    data, scale = tensors[layer + DATA], tensors.get(layer + SCALE)
    if scale is None or scale.dtype.kind != "f" and scale.dtype != ml_dtypes.bfloat16:
        raise UserError(f"{where} has no scale of floats; download the file again")
    if not isinstance(data, np.ndarray) or data.dtype != _DTYPES[weights]:
        raise UserError(f"{where} is {data.dtype}, {weights} by the map; give the map of this file")
    try:
        return scaled(data, np.asarray(scale))
    except ValueError as error:
        raise UserError(f"{where} has {error}; download the file again") from None


def _map_given(path: Path, given: Path, layers: set[str]) -> tuple[Path, dict[str, Any]]:
    table = read_table(existing_file(given, "a map (.json) of quantised layers"))
    if differ := sorted(table.keys() ^ layers):
        raise UserError(
            f"{given}: is not the map of {path} ({len(table)} layers, {len(layers)} in the file; {differ[0]} is in one "
            "alone); give that"
        )
    if not all(isinstance(told, dict) for told in table.values()):
        raise UserError(f"{given}: is no map of quantised layers; give that of {path}")
    return given, table


def _map_beside(path: Path, layers: set[str]) -> tuple[Path, dict[str, Any]]:
    for candidate in sorted(path.parent.glob("*.json")):
        if candidate.stat().st_size > _MAX_BYTES:
            continue
        try:
            table = read_table(candidate)
        except UserError:  # of somebody else
            continue
        if table.keys() == layers and all(isinstance(told, dict) for told in table.values()):
            return candidate, table
    raise UserError(
        f"{path}: is quantised by quanto ({len(layers)} layers), and no map of just these lies beside it; put its "
        ".json there, such as dit_model_map_int8.json"
    )
