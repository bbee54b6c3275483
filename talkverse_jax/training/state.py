"""What training changes, what it leaves alone, and how both begin."""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.sharding import Sharding
from jaxtyping import Array, Int

from talkverse_jax.core import tree
from talkverse_jax.core.errors import UserError
from talkverse_jax.families.talkverse.components import COMPONENTS
from talkverse_jax.families.talkverse.config import TalkVerseConfig
from talkverse_jax.families.talkverse.model import TalkVerse
from talkverse_jax.ops.names import KernelName, Remat
from talkverse_jax.sharding.layout import Layout
from talkverse_jax.training import lora
from talkverse_jax.training.strategy import OWN, Group, Strategy, matches
from talkverse_jax.weights import store

Beginning = Literal["weights", "adapter", "all"]


class TrainState(NamedTuple):
    """What an update changes. Arrays are float32; those of stacked layers are stacked.

    Attributes:
      params: the trained parameters by key (see `Network`).
      step: updates done.
      ema: their running average, or None.
    """

    params: tree.Flat
    optimizer: optax.OptState
    step: Int[Array, ""]
    ema: tree.Flat | None


@dataclasses.dataclass(frozen=True, eq=False)
class Network:
    """The transformer without its trained parameters.

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
        """The whole transformer."""
        return tree.join(self.graphdef, params, self.frozen)


@dataclasses.dataclass(frozen=True)
class Settings:
    """Of the network that is trained.

    Attributes:
      rank, alpha: of LoRA adapters, where the strategy has them.
      beginning: `weights`: all as they were converted. `adapter`: the base model as it was before TalkVerse's
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


def load_network(weights_dir: str, settings: Settings, layout: Layout) -> tuple[Network, tree.Flat]:
    """The transformer of a folder of converted weights in two parts, and the values of the trained one.

    LoRA pairs that the folder keeps beside the weights (--lora_merge false) are added to them, or, where adapters
    are trained, are where these begin.

    Raises:
      UserError: the weights cannot be used, hold pairs of another rank or alpha than asked for, or the base model
        is asked for and they were converted with the pairs added.
    """
    component, strategy = COMPONENTS["dit"], settings.strategy
    config = store.load_config(weights_dir, component)
    plain = abstract(config, settings, layout, adapters=False)
    fresh = {"weights": (), "adapter": OWN, "all": ("*",)}[settings.beginning]
    dtype_of = lambda path: jnp.dtype("float32" if strategy.trains(path) else settings.dtype)  # noqa: E731
    place = layout.parameter_sharding(component.axes) if layout.mesh else lambda *_: None
    base = store.base_tensors(weights_dir, component) if settings.beginning == "adapter" else {}
    parameters = store.load_parameters(
        weights_dir,
        component,
        plain,
        dtype_of=dtype_of,
        layout=layout,
        with_lora=settings.beginning == "weights" and not strategy.lora,
    )
    parameters |= {path: jax.device_put(x.astype(dtype_of(path)), place(path, x.shape)) for path, x in base.items()}
    module = abstract(config, settings, layout)
    drawn = [path for path in parameters if matches(path, fresh)]
    parameters |= _drawn(config, settings, layout, {path: dtype_of(path) for path in drawn}, place)
    if strategy.lora:
        parameters |= _adapters(weights_dir, settings, module, place)
    return divide(tree.with_parameters(module, parameters), strategy, layout)


def abstract(config: TalkVerseConfig, settings: Settings, layout: Layout, adapters: bool = True) -> nnx.Module:
    """The transformer to be trained, of shapes alone, with its adapters or without."""
    module = COMPONENTS["dit"].abstract(
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
        lora.attach(module, settings.rank, settings.alpha)
    return module


def divide(module: nnx.Module, strategy: Strategy, layout: Layout) -> tuple[Network, tree.Flat]:
    """The transformer in two parts, and the trained parameters by key."""
    graphdef, params, frozen, paths = tree.divide(module, strategy.trains)
    groups = {key: strategy.group(names[0]) for key, names in paths.items()}
    return Network(graphdef, frozen, paths, groups, layout), params


def start(params: tree.Flat, optimizer: optax.GradientTransformation, ema: bool) -> TrainState:
    """The state before the first update."""
    abstract_state = start_abstract(params, optimizer, ema)
    make = jax.jit(
        lambda: jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), abstract_state.optimizer),
        out_shardings=jax.tree.map(lambda leaf: leaf.sharding, abstract_state.optimizer),
    )
    copies = jax.tree.map(jnp.copy, params) if ema else None
    step = jax.device_put(np.int32(0), abstract_state.step.sharding)
    return TrainState(params, make(), step, copies)


def start_abstract(params: tree.Flat, optimizer: optax.GradientTransformation, ema: bool) -> TrainState:
    """Shapes, dtypes and shardings of the state: Adam's moments lie where their parameters do."""
    params = {key: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding) for key, x in params.items()}
    whole = _replicated(next(iter(params.values())).sharding)

    def placed(path: tuple, leaf: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
        param = params.get(getattr(path[-1], "key", None))  # a moment stands under its parameter's key
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=param.sharding if param else whole)

    moments = jax.tree.map_with_path(placed, jax.eval_shape(optimizer.init, params))
    return TrainState(params, moments, jax.ShapeDtypeStruct((), jnp.int32, sharding=whole), params if ema else None)


def _replicated(sharding: Sharding) -> Sharding:
    if isinstance(sharding, jax.sharding.NamedSharding):
        return jax.sharding.NamedSharding(sharding.mesh, jax.sharding.PartitionSpec())
    return sharding


def _drawn(
    config: TalkVerseConfig, settings: Settings, layout: Layout, dtypes: dict[str, jnp.dtype], place: Callable
) -> tree.Flat:
    """Parameters, of these dtypes by path, as the model's own initialisers draw them."""
    if not dtypes:
        return {}

    def draw() -> tree.Flat:
        model = TalkVerse(config, rngs=nnx.Rngs(settings.seed), layout=layout, scan=True)
        drawn = tree.parameters(model)
        return {path: drawn[path].astype(dtype) for path, dtype in dtypes.items()}

    shapes = jax.eval_shape(draw)
    return jax.jit(draw, out_shardings={path: place(path, leaf.shape) for path, leaf in shapes.items()})()


def _adapters(weights_dir: str, settings: Settings, module: nnx.Module, place: Callable) -> tree.Flat:
    """The values that the adapters begin with: of the pairs beside the weights, or new ones."""
    values = {}
    if settings.beginning == "weights":
        pairs, rank, alpha = store.stored_pairs(weights_dir, COMPONENTS["dit"])
        values = lora.factors(pairs)
    if values and (rank, alpha) != (settings.rank, settings.alpha):
        raise UserError(
            f"{weights_dir}: its LoRA pairs have rank {rank} and alpha {alpha:g}; "
            f"pass --lora_rank {rank} --lora_alpha {alpha:g}"
        )
    found = {}
    for path, leaf in tree.abstract_parameters(module).items():
        if path.endswith((lora.A, lora.B)):
            where = place(path, leaf.shape)
            if path in values:
                found[path] = jax.device_put(np.asarray(values[path], np.float32), where)
            else:
                found[path] = lora.new_factor(settings.seed, path, leaf.shape, where)
    return found
