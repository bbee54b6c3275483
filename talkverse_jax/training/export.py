"""The trained tensors of a checkpoint, or of a run as it is, as one safetensors file under the original's names.

Layers with an adapter have a LoRA pair, others are whole. Besides, the file has what it needs to be complete
(`besides.py`).
"""

import dataclasses
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
from talkverse_jax.training.network import Network, NetworkSettings, Start, abstract, divide
from talkverse_jax.weights import lora as pairs
from talkverse_jax.weights import orbax_io, rule, store
from talkverse_jax.weights import safetensors_io as safetensors
from talkverse_jax.weights.component import Component

_DTYPES = {"float32": np.dtype(np.float32), "bfloat16": np.dtype(ml_dtypes.bfloat16)}
_GROUP_BYTES = 512 * 1024**2  # read at once, or one stacked parameter


@dataclasses.dataclass(frozen=True)
class Exporter:
    """Writes the trained tensors of a run. Every process comes to its methods, and process 0 writes; a part of the
    tensors is in memory at a time.

    Attributes:
      weights_dir: that the run began with, as `settings` and `start` say.
      dtype: of the tensors, "float32" or "bfloat16".
      within: a checkpoint's states, that of the network; "" where it holds one alone.
    """

    weights_dir: str
    component: Component
    settings: NetworkSettings
    start: Start
    dtype: str
    within: str = ""

    def checkpoint(self, checkpoints: Checkpoints, step: int, target: Path) -> None:
        """Those of a checkpoint: their running average, where there is one.

        Raises:
          UserError: the checkpoint is not of such a run.
          OSError: the file cannot be written. Nothing is left of it.
        """
        within = self.within and f"{self.within}/"
        source = "ema" if any(name.startswith(f"{within}ema/") for name in checkpoints.arrays(step)) else "params"

        def read(group: Any) -> Any:
            wanted = {source: group}
            if not within:
                return checkpoints.read_state(step, wanted)[source]
            return checkpoints.read_state(step, {self.within: wanted})[self.within][source]

        if is_main():
            self._write(read, step, target)

    def live(self, params: tree.Flat, step: int, target: Path) -> None:
        """Those that lie on the devices, by key.

        Raises:
          OSError: the file cannot be written. Nothing is left of it.
        """
        read = lambda group: {key: fetch(params[key]) for key in group}  # noqa: E731
        if is_main():
            self._write(read, step, target)
            return
        for group in _groups(self._network()[1]):
            read(group)

    def _network(self) -> tuple[Network, tree.Flat]:
        """Of shapes alone."""
        config = store.load_config(self.weights_dir, self.component)
        return divide(abstract(self.component, config, self.settings, Layout()), self.settings.strategy, Layout())

    def _write(self, read: Callable[[Any], Mapping[str, Any]], step: int, target: Path) -> None:
        """Write the file.

        Args:
          read: a group of parameters, by key.
        """
        network, params = self._network()
        trained = set().union(*network.paths.values())
        beside = besides(self.weights_dir, self.component, trained, self.settings, self.start)
        rules, dtype = self.component.rules, _DTYPES[self.dtype]

        def named(path: str, value: np.ndarray) -> tuple[str, np.ndarray]:
            return beside.with_more(*torch_tensor(rules, path, value))

        shapes = {}
        for key, leaf in params.items():
            shape = leaf.shape if len(network.paths[key]) == 1 else leaf.shape[1:]
            for path in network.paths[key]:
                name, value = named(path, np.broadcast_to(np.float32(0), shape))
                shapes[name] = (dtype, value.shape)
        for name, value in beside.tensors.items():
            shapes[name] = (value.dtype if name.endswith(pairs.ALPHA) else dtype, value.shape)
        metadata = {"format": "pt", "step": str(step), "strategy": self.settings.strategy.name} | beside.metadata

        def tensors() -> Iterator[np.ndarray]:
            for group in _groups(params):
                arrays = dict(read(group))
                for key in group:
                    array, paths = arrays.pop(key), network.paths[key]
                    for path, value in zip(paths, [array] if len(paths) == 1 else array):
                        yield named(path, value)[1].astype(dtype)
            for name, value in beside.tensors.items():
                yield np.asarray(value).astype(shapes[name][0])

        with replacing(target) as partial:
            safetensors.write_file(partial, safetensors.make_header(shapes, metadata), tensors())


def _groups(params: tree.Flat) -> Iterator[Any]:
    """The shapes of trained parameters by key, in parts that are read at once."""
    wanted = {key: jax.ShapeDtypeStruct(leaf.shape, np.float32, sharding=None) for key, leaf in params.items()}
    yield from orbax_io.groups(wanted, _GROUP_BYTES)


def torch_tensor(rules: tuple[rule.Rule, ...], path: str, value: np.ndarray) -> tuple[str, np.ndarray]:
    """A trained parameter by its PyTorch name, in PyTorch's layout."""
    for end, factor in ((lora.A, pairs.A), (lora.B, pairs.B)):
        if path.endswith(end):
            return layer_of(rules, path.removesuffix(end) + "/kernel") + factor, value.T
    return rule.torch_tensor(rules, path, value)
