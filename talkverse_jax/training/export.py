"""The trained tensors of a checkpoint, or of a run as it is, as one safetensors file under the original's names.

Layers with an adapter have a LoRA pair, others are whole. Besides, the file has what it needs to be complete
(`besides.py`).
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import ml_dtypes
import numpy as np

from talkverse_jax.core import tree
from talkverse_jax.core.paths import replacing
from talkverse_jax.sharding.distributed import fetch, is_main
from talkverse_jax.sharding.layout import Layout
from talkverse_jax.training import lora
from talkverse_jax.training.besides import besides, layer_of
from talkverse_jax.training.checkpoint import Checkpoints
from talkverse_jax.training.network import NetworkSettings, Start, abstract, divide
from talkverse_jax.weights import lora as pairs
from talkverse_jax.weights import orbax_io, rule, store
from talkverse_jax.weights import safetensors_io as safetensors
from talkverse_jax.weights.component import Component

_DTYPES = {"float32": np.dtype(np.float32), "bfloat16": np.dtype(ml_dtypes.bfloat16)}
_GROUP_BYTES = 512 * 1024**2  # read at once, or one stacked parameter


def export(
    checkpoints: Checkpoints,
    step: int,
    target: str | Path,
    weights_dir: str,
    component: Component,
    settings: NetworkSettings,
    start: Start,
    dtype: str,
) -> Path:
    """Write the trained tensors of a checkpoint: their running average, where there is one.

    A part of them is in memory at a time. Every process comes here, and process 0 writes.

    Args:
      settings, start: of the run.
      dtype: of the tensors, "float32" or "bfloat16".

    Raises:
      UserError: the checkpoint is not of such a run.
      OSError: the file cannot be written. Nothing is left of it.
    """
    source = "ema" if any(name.startswith("ema/") for name in checkpoints.arrays(step)) else "params"
    read = lambda group: checkpoints.read_state(step, {source: group})[source]  # noqa: E731
    if is_main():
        _write(read, step, Path(target), weights_dir, component, settings, start, dtype)
    return Path(target)


def export_now(
    params: tree.Flat,
    step: int,
    target: str | Path,
    weights_dir: str,
    component: Component,
    settings: NetworkSettings,
    start: Start,
    dtype: str,
) -> Path:
    """The same of parameters that lie on the devices, by key; every process comes here."""
    read = lambda group: {key: fetch(params[key]) for key in group}  # noqa: E731
    if is_main():
        _write(read, step, Path(target), weights_dir, component, settings, start, dtype)
    else:
        config = store.load_config(weights_dir, component)
        shapes = divide(abstract(component, config, settings, Layout()), settings.strategy, Layout())[1]
        for group in _groups(shapes):
            read(group)
    return Path(target)


def _groups(params: tree.Flat) -> Iterator[Any]:
    """The shapes of trained parameters by key, in parts that are read at once."""
    wanted = {key: jax.ShapeDtypeStruct(leaf.shape, np.float32, sharding=None) for key, leaf in params.items()}
    yield from orbax_io.groups(wanted, _GROUP_BYTES)


def _write(
    read: Callable[[Any], Mapping[str, Any]],
    step: int,
    target: Path,
    weights_dir: str,
    component: Component,
    settings: NetworkSettings,
    start: Start,
    dtype: str,
) -> None:
    """Write the file.

    Args:
      read: a group of parameters, by key.
    """
    config = store.load_config(weights_dir, component)
    network, params = divide(abstract(component, config, settings, Layout()), settings.strategy, Layout())
    trained = set().union(*network.paths.values())
    beside = besides(weights_dir, component, trained, settings, start)

    def named(path: str, value: np.ndarray) -> tuple[str, np.ndarray]:
        return beside.with_more(*torch_tensor(component.rules, path, value))

    shapes = {}
    for key, leaf in params.items():
        shape = leaf.shape if len(network.paths[key]) == 1 else leaf.shape[1:]
        for path in network.paths[key]:
            name, value = named(path, np.broadcast_to(np.float32(0), shape))
            shapes[name] = (_DTYPES[dtype], value.shape)
    for name, value in beside.tensors.items():
        shapes[name] = (value.dtype if name.endswith(pairs.ALPHA) else _DTYPES[dtype], value.shape)
    metadata = {"format": "pt", "step": str(step), "strategy": settings.strategy.name} | beside.metadata

    def tensors() -> Iterator[np.ndarray]:
        for group in _groups(params):
            arrays = dict(read(group))
            for key in group:
                array, paths = arrays.pop(key), network.paths[key]
                for path, value in zip(paths, [array] if len(paths) == 1 else array):
                    yield named(path, value)[1].astype(_DTYPES[dtype])
        for name, value in beside.tensors.items():
            yield np.asarray(value).astype(shapes[name][0])

    with replacing(target) as partial:
        safetensors.write_file(partial, safetensors.make_header(shapes, metadata), tensors())


def torch_tensor(rules: tuple[rule.Rule, ...], path: str, value: np.ndarray) -> tuple[str, np.ndarray]:
    """A trained parameter by its PyTorch name, in PyTorch's layout."""
    for end, factor in ((lora.A, pairs.A), (lora.B, pairs.B)):
        if path.endswith(end):
            return layer_of(rules, path.removesuffix(end) + "/kernel") + factor, value.T
    return rule.torch_tensor(rules, path, value)
