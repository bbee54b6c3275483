"""Checkpoints of any size with random weights, in the layout that a family's real ones are published in.

For tests and benchmarks: outputs stay finite, and say nothing. `python -m talkverse_jax.cli.random_checkpoint` is the
command.
"""

import fnmatch
import math
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from talkverse_jax.core.paths import new_folder
from talkverse_jax.core.reporting import SILENT, Reporter
from talkverse_jax.pipeline.family import Family
from talkverse_jax.weights import lora
from talkverse_jax.weights.published import Origin
from talkverse_jax.weights.published_files import Shapes, Values, write_safetensors

LORA_RANK = 128
_BLOCK = 16 * 1024**2  # values drawn at once


def write_random_checkpoint(
    family: Family,
    folder: str | Path,
    configs: Any,
    seed: int,
    components: Iterable[str] | None = None,
    lora_rank: int = LORA_RANK,
    reporter: Reporter = SILENT,
) -> dict[str, Path]:
    """Write a checkpoint, tensor by tensor; the same seed gives the same values.

    Args:
      configs: the sizes, the family's `configs_type`.
      components: which; by default all but optional ones.
      lora_rank: of the pairs in a trained file.

    Returns:
      The flags of the family's `Sources` that name the files for the conversion.
    """
    folder, paths = new_folder(folder), {}
    chosen = family.needed if components is None else tuple(components)
    for name in dict.fromkeys((*family.needed, *chosen)):
        origin = family.sources[name]
        new_folder(folder / origin.repository.folder)
        paths[origin.repository.flag] = origin.written(folder)
        for adapter in origin.adapters[:1]:
            paths[adapter.flag] = folder / adapter.on_hub
    for name in chosen:
        config, origin = getattr(configs, name), family.sources[name]
        shapes = family.components[name].torch_shapes(config)
        _write(origin, folder, config, shapes, seed, lora_rank)
        reporter.say(f"{name}: {len(shapes)} tensors in {paths[origin.repository.flag]}")
    return paths


def _write(
    origin: Origin, folder: Path, config: Any, shapes: Mapping[str, tuple[int, ...]], seed: int, rank: int
) -> None:
    home, dtype = folder / origin.repository.folder, np.dtype(origin.random.dtype)
    adapter = next(iter(origin.adapters), None)
    base = {name: shape for name, shape in shapes.items() if not (adapter and adapter.is_new(name))}
    base |= origin.random.also(config)
    origin.tensors.write(home, {name: (dtype, shape) for name, shape in base.items()}, _values(origin, seed))
    for small in origin.beside:
        small.write(home, config)
    if adapter:
        write_safetensors(folder / adapter.on_hub, adapter.shapes(shapes, rank), _values(origin, seed + 1))


def _values(origin: Origin, seed: int) -> Values:
    """Normal noise, seeded by each tensor's name; kernels keep the variance of what passes through."""

    def values(shapes: Shapes) -> Iterator[np.ndarray]:
        for name, (dtype, shape) in shapes.items():
            rng = np.random.Generator(np.random.PCG64([seed, zlib.crc32(name.encode())]))
            mean, std = _mean_and_std(origin, name, shape)
            value = np.empty(shape, dtype)
            flat = value.reshape(-1)
            for start in range(0, flat.size, _BLOCK):
                part = rng.standard_normal(min(_BLOCK, flat.size - start), dtype=np.float32)
                part *= np.float32(std)
                part += np.float32(mean)
                flat[start : start + _BLOCK] = part
            yield value

    return values


def _mean_and_std(origin: Origin, name: str, shape: tuple[int, ...]) -> tuple[float, float]:
    for pattern, chosen in origin.random.values.items():
        if fnmatch.fnmatchcase(name, pattern):
            return chosen
    last = name.rsplit(".", 1)[-1]
    if name.endswith((lora.A, lora.B)):
        return 0.0, 0.1 / math.sqrt(shape[1])
    if last == "gamma" or (last == "weight" and len(shape) == 1) or last in ("weight_g", "original0"):
        return 1.0, 0.1
    if len(shape) < 2 or last in ("bias", "modulation"):
        return 0.0, 0.1
    return 0.0, 1 / math.sqrt(math.prod(shape[1:]))
