"""The network that is trained, in two parts: what training changes, and what it leaves alone."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from talkverse_jax.core import tree
from talkverse_jax.models.wan.embeddings import PatchEmbedding
from talkverse_jax.models.wan.linear import Adapter
from talkverse_jax.ops.names import KernelName, Remat
from talkverse_jax.sharding.layout import Layout
from talkverse_jax.training import lora
from talkverse_jax.training.names import Beginning
from talkverse_jax.training.strategy import Group, Strategy, matches
from talkverse_jax.weights import store
from talkverse_jax.weights.component import Component
from talkverse_jax.weights.lora import Pair
from talkverse_jax.weights.trained import TrainedTensors, lay_over


@dataclasses.dataclass(frozen=True, eq=False)
class Network:
    """A network without its trained parameters.

    Attributes:
      graphdef: its structure.
      frozen: the parameters that stay as they are, in the dtype of the matrix products.
      paths: of each trained parameter's key, the paths it stands for: several where layers are stacked.
      groups: of each key.
      layout: how its arrays are split.
    """

    graphdef: nnx.GraphDef
    frozen: nnx.State
    paths: dict[str, tuple[str, ...]]
    groups: dict[str, Group]
    layout: Layout

    def model(self, params: tree.Flat) -> Any:
        """The whole network."""
        return tree.join(self.graphdef, params, self.frozen)


@dataclasses.dataclass(frozen=True)
class NetworkSettings:
    """Of the network that is trained.

    Attributes:
      rank, alpha: of LoRA adapters, where the strategy has them.
      beginning: `weights`: all as they were converted. `adapter`: the base model as it was before the family's
        training, and what it lacks drawn anew, as the original's training begins. `all`: everything drawn anew.
      dtype: of the matrix products, and of what is not trained.
    """

    strategy: Strategy
    rank: int = 128
    alpha: float = 128.0
    beginning: Beginning = "weights"
    seed: int = 0
    dtype: str = "bfloat16"
    kernel: KernelName = "auto"
    remat: Remat = "full"


@dataclasses.dataclass(frozen=True)
class Start:
    """What a run begins with besides the parameters of its weights; see `beginning.begin`.

    Attributes:
      rank, alpha: of the adapters, where the strategy has them.
      adapters: pairs that they go on from, by our path of the kernel; others are new.
      stored: pairs beside the weights that count, likewise.
      over: trained files that are laid over the weights.
      notices: lines for the person.
    """

    rank: int = 128
    alpha: float = 128.0
    adapters: Mapping[str, Pair] = dataclasses.field(default_factory=dict)
    stored: Mapping[str, Pair] = dataclasses.field(default_factory=dict)
    over: tuple[TrainedTensors, ...] = ()
    notices: tuple[str, ...] = ()


def load_network(
    weights_dir: str, component: Component, settings: NetworkSettings, layout: Layout, start: Start
) -> tuple[Network, tree.Flat]:
    """A network of a folder of converted weights in two parts, and the values of the trained one.

    Trained files are laid over the weights. LoRA pairs that the folder keeps beside the weights (--lora_merge false)
    are added to them, or, where adapters are trained, are where these begin.

    Raises:
      UserError: the weights cannot be used, or the base model is asked for and they were converted with the pairs
        added.
    """
    strategy = settings.strategy
    config = store.load_config(weights_dir, component)
    plain = abstract(component, config, settings, layout, adapters=False)
    fresh = {"weights": (), "adapter": strategy.parts.own, "all": ("*",)}[settings.beginning]
    dtype_of = lambda path: jnp.dtype("float32" if strategy.trains(path) else settings.dtype)  # noqa: E731
    place = layout.parameter_sharding(component.axes) if layout.mesh else lambda *_: None
    base = store.base_tensors(weights_dir, component) if settings.beginning == "adapter" else {}
    parameters = store.load_parameters(
        weights_dir,
        component,
        plain,
        dtype_of=dtype_of,
        layout=layout,
        with_lora=bool(start.stored) and not strategy.lora,
    )
    parameters |= {path: jax.device_put(x.astype(dtype_of(path)), place(path, x.shape)) for path, x in base.items()}
    lay_over(parameters, start.over, component.rules)
    module = abstract(component, config, settings, layout)
    drawn = [path for path in parameters if matches(path, fresh)]
    parameters |= _drawn(component, config, settings, layout, {path: dtype_of(path) for path in drawn}, place)
    if strategy.lora:
        parameters |= _adapters(settings, start, module, place)
    return divide(tree.with_parameters(module, parameters), strategy, layout)


def abstract(
    component: Component, config: Any, settings: NetworkSettings, layout: Layout, adapters: bool = True
) -> nnx.Module:
    """The network to be trained, of shapes alone, with its adapters or without."""
    module = component.abstract(
        config,
        jnp.float32,
        jnp.dtype(settings.dtype),
        layout,
        kernel=settings.kernel,
        scan=True,  # on every machine: checkpoints hold stacked layers
        remat=settings.remat,
        part_at=settings.strategy.first_block,
    )
    if adapters and settings.strategy.lora:
        lora.attach(settings.strategy.parts.adapted(module), settings.rank, settings.alpha)
    return module


def divide(module: nnx.Module, strategy: Strategy, layout: Layout) -> tuple[Network, tree.Flat]:
    """A network in two parts, and the trained parameters by key."""
    graphdef, params, frozen, paths = tree.divide(module, strategy.trains)
    groups: dict[str, Group] = {key: strategy.group(names[0]) for key, names in paths.items()}
    return Network(graphdef, frozen, paths, groups, layout), params


def kept(module: nnx.Module, layout: Layout) -> Network:
    """A network that is not trained at all."""
    graphdef, _, frozen, _ = tree.divide(module, lambda _: False)
    return Network(graphdef, frozen, {}, {}, layout)


def _drawn(
    component: Component,
    config: Any,
    settings: NetworkSettings,
    layout: Layout,
    dtypes: dict[str, jnp.dtype],
    place: Callable,
) -> tree.Flat:
    """Parameters, of these dtypes by path, as the model's own initialisers draw them."""
    if not dtypes:
        return {}

    make: Any = component.model_type

    def draw() -> tree.Flat:
        model = make(config, rngs=nnx.Rngs(settings.seed), layout=layout, scan=True)
        drawn = tree.parameters(model)
        return {path: drawn[path].astype(dtype) for path, dtype in dtypes.items()}

    shapes = jax.eval_shape(draw)
    return jax.jit(draw, out_shardings={path: place(path, leaf.shape) for path, leaf in shapes.items()})()


def _adapters(settings: NetworkSettings, start: Start, module: nnx.Module, place: Callable) -> tree.Flat:
    """The values that the adapters begin with: of pairs that there are, or new ones."""
    values, found = lora.factors(start.adapters), {}
    for path, leaf in tree.abstract_parameters(module).items():
        if path.endswith((lora.A, lora.B)):
            where = place(path, leaf.shape)
            if path in values:
                found[path] = jax.device_put(np.asarray(values[path], np.float32), where)
            else:
                found[path] = lora.new_factor(settings.seed, path, leaf.shape, where)
    return found


def lower_precision(model: nnx.Module) -> None:
    """Within jit: turn the parameters of matrix products to the dtype of these, all at once and before their parts
    are gathered from other devices; gradients come back in it too."""
    for _, node in nnx.iter_graph(model):
        if isinstance(node, (nnx.Linear, PatchEmbedding, Adapter)) and node.dtype is not None:
            for name, value in list(vars(node).items()):
                if isinstance(value, nnx.Param):
                    setattr(node, name, nnx.Param(value.get_value().astype(node.dtype)))
