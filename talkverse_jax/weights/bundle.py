"""Reference bundles: one case of the original program in one safetensors file (docs/parity.md).

Tensors are grouped by prefix (`inputs/`, `outputs/`, `taps/`, `weights/`, `lora/`); the metadata entry
`bundle` is JSON with the component, its config, and its weights: a recipe that makes random ones, or the
paths of files that hold real ones.
"""

import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from talkverse_jax.core.errors import UserError
from talkverse_jax.core.paths import existing_file, replacing
from talkverse_jax.weights.safetensors_io import read_file


class Bundle:
    """A reference bundle opened for reading.

    Attributes:
      meta: the JSON of the metadata entry `bundle`.
      component, config, family: shortcuts into it; an older bundle names no family.
      other_weights: a checkpoint to run the case with instead of its own weights, and quanto's map of it; or None.
    """

    def __init__(self, path: str | Path, other_weights: tuple[str, str | None] | None = None):
        self.other_weights = other_weights
        self.path = existing_file(path, "a reference bundle (.safetensors)")
        try:
            self._file = safe_open(self.path, framework="numpy")
            self.meta: dict[str, Any] = json.loads((self._file.metadata() or {})["bundle"])
        except KeyError:
            raise UserError(f"{path}: safetensors without a `bundle` entry; not a reference bundle") from None
        except (SafetensorError, OSError, ValueError) as error:
            raise UserError(f"{path}: not a readable reference bundle ({error})") from None
        self.component: str = self.meta.get("component", "")
        self.config: dict[str, Any] = self.meta.get("config", {})
        self.family: str | None = self.meta.get("family")

    def group(self, prefix: str) -> dict[str, np.ndarray]:
        """The tensors under `prefix/`, by the rest of their name."""
        start = prefix + "/"
        return {
            name[len(start) :]: self._file.get_tensor(name)
            for name in self._file.keys()  # noqa: SIM118 (safe_open is no mapping)
            if name.startswith(start)
        }

    def weights(self, part: str | None = None) -> Mapping[str, np.ndarray]:
        """The PyTorch weights of the case: stored whole, or made by the recipe.

        Args:
          part: "dit" or "vae" where the bundle holds a recipe for each.
        """
        stored = self.group("weights")
        if stored:
            return stored
        recipe = self.meta.get("recipe", {})
        recipe = recipe.get(part, recipe) if part else recipe
        if "tensors" not in recipe:
            raise UserError(f"{self.path}: neither weights nor a recipe for {part or self.component}")
        return weights_from_recipe(recipe, str(self.path))


def outputs_of(path: str | Path) -> dict[str, np.ndarray]:
    """The outputs in a safetensors file, which need be no bundle, by name.

    Raises:
      UserError: it is not readable, or has none.
    """
    tensors = read_file(path).tensors
    if found := {
        name.removeprefix("outputs/"): value for name, value in tensors.items() if name.startswith("outputs/")
    }:
        return found
    raise UserError(f"{path}: has no tensor outputs/...; give the outputs to compare with", field="expected")


def write_bundle(path: Path, meta: Mapping[str, Any], groups: Mapping[str, Mapping[str, np.ndarray]]) -> None:
    """Write a reference bundle; a file already there is replaced only once the new one is whole.

    Args:
      meta: the metadata entry `bundle`.
      groups: tensors by name, under `inputs`, `outputs`, `taps`.
    """
    tensors = {
        f"{group}/{name}": np.ascontiguousarray(value)
        for group, values in groups.items()
        for name, value in values.items()
    }
    text = json.dumps(meta)
    with replacing(path) as partial:
        save_file(tensors, partial, metadata={"bundle": text})


def weights_from_recipe(recipe: dict[str, Any], where: str) -> dict[str, np.ndarray]:
    """Random PyTorch weights, the same for everybody: each tensor is normal noise seeded by the recipe's
    seed and its own name.

    Raises:
      UserError: the checksum differs, so this numpy draws other numbers.
    """
    tensors, crc = {}, 0
    for name, shape, mean, std in recipe["tensors"]:
        rng = np.random.Generator(np.random.PCG64([recipe["seed"], zlib.crc32(name.encode())]))
        value = rng.standard_normal(shape, dtype=np.float32)
        value *= np.float32(std)
        value += np.float32(mean)
        crc = zlib.crc32(value.reshape(-1)[:16].tobytes(), crc)
        tensors[name] = value
    if crc != recipe["crc32_of_first_16_values"]:
        raise UserError(f"{where}: the weight recipe gives other numbers with this numpy {np.__version__}")
    return tensors
