"""The trained tensors of a checkpoint as one safetensors file, under the names of the original program.

Layers with an adapter have a LoRA pair, others are whole. Where the weights that training began with keep their
LoRA pairs beside them (converted with --lora_merge false), the file has besides what these have and the base model
lacks: together with the base model it is complete, and its header says `lora_pairs: all`.
"""

from collections.abc import Iterator
from pathlib import Path

import jax
import ml_dtypes
import numpy as np

from talkverse_jax.core.paths import replacing
from talkverse_jax.sharding.distributed import is_main
from talkverse_jax.sharding.layout import Layout
from talkverse_jax.training import lora
from talkverse_jax.training.checkpoint import Checkpoints
from talkverse_jax.training.network import NetworkSettings, abstract, divide
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
    dtype: str,
) -> Path:
    """Write the trained tensors of a checkpoint: their running average, where there is one.

    A part of them is in memory at a time. Every process comes here, and process 0 writes.

    Args:
      settings: of the run.
      dtype: of the tensors, "float32" or "bfloat16".

    Raises:
      UserError: the checkpoint is not of such a run.
      OSError: the file cannot be written. Nothing is left of it.
    """
    config = store.load_config(weights_dir, component)
    network, params = divide(abstract(component, config, settings, Layout()), settings.strategy, Layout())
    source = "ema" if any(name.startswith("ema/") for name in checkpoints.arrays(step)) else "params"
    stored, rank, alpha = store.stored_pairs(weights_dir, component)
    if settings.strategy.lora:
        rank, alpha = settings.rank, settings.alpha
    trained = set().union(*network.paths.values())
    beside = _not_trained(weights_dir, component, trained, stored) if settings.beginning == "weights" else {}
    shapes = {}
    for key, leaf in params.items():
        shape = leaf.shape if len(network.paths[key]) == 1 else leaf.shape[1:]
        for path in network.paths[key]:
            name, value = torch_tensor(component.rules, path, np.broadcast_to(np.float32(0), shape))
            shapes[name] = (_DTYPES[dtype], value.shape)
    shapes |= {name: (_DTYPES[dtype], value.shape) for name, value in beside.items()}
    metadata = {"format": "pt", "step": str(step), "strategy": settings.strategy.name}
    if rank:
        metadata |= {"lora_rank": str(rank), "lora_alpha": f"{alpha:g}"}
    if stored:
        metadata |= pairs.ALL_PAIRS

    def tensors() -> Iterator[np.ndarray]:
        wanted = {key: jax.ShapeDtypeStruct(leaf.shape, np.float32, sharding=None) for key, leaf in params.items()}
        for group in orbax_io.groups(wanted, _GROUP_BYTES):
            arrays = checkpoints.read_state(step, {source: group})[source]
            for key in group:
                array, paths = arrays.pop(key), network.paths[key]
                for path, value in zip(paths, [array] if len(paths) == 1 else array):
                    yield torch_tensor(component.rules, path, value)[1].astype(_DTYPES[dtype])
        for value in beside.values():
            yield np.asarray(value).astype(_DTYPES[dtype])

    target = Path(target)
    if not is_main():
        return target
    with replacing(target) as partial:
        safetensors.write_file(partial, safetensors.make_header(shapes, metadata), tensors())
    return target


def _not_trained(
    weights_dir: str, component: Component, trained: set[str], stored: dict[str, pairs.Pair]
) -> dict[str, np.ndarray]:
    """What the weights have and their base model lacks, besides what was trained, by PyTorch name.

    Args:
      trained: paths.
      stored: pairs beside the weights; of a layer that is trained they are in its kernel or its adapter.
    """
    adapted = {path.replace(lora.A, "/kernel") for path in trained}
    tensors = pairs.join(
        {_layer(component.rules, path): pair for path, pair in stored.items() if path not in trained | adapted}
    )
    if not stored:  # the pairs are in the kernels: there is no telling them from the base model's
        return tensors
    folder = store.folder_of(weights_dir, component.name) / store.PARAMETERS
    shapes = orbax_io.shapes(folder)
    own = {path: shapes[path] for path in store.base_tensors(weights_dir, component) if path not in trained}
    return tensors | dict(
        torch_tensor(component.rules, path, value) for path, value in orbax_io.read(folder, own).items()
    )


def torch_tensor(rules: tuple[rule.Rule, ...], path: str, value: np.ndarray) -> tuple[str, np.ndarray]:
    """A trained parameter by its PyTorch name, in PyTorch's layout."""
    for end, factor in ((lora.A, pairs.A), (lora.B, pairs.B)):
        if path.endswith(end):
            return _layer(rules, path.removesuffix(end) + "/kernel") + factor, value.T
    return rule.torch_tensor(rules, path, value)


def _layer(rules: tuple[rule.Rule, ...], path: str) -> str:
    """The PyTorch name of the layer that a kernel belongs to."""
    return rule.find_rule(rules, path)[1][0].removesuffix(".weight")
