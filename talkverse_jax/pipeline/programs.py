"""What sampling runs, as `plan` asks a family for it: programs with their work, and the shapes and places of what they
take.

    sampling_work(configs, settings, machine, size) -> ClipWork              what a clip costs by the models' sizes
    programs(configs, settings, machine, size, mesh, int8) -> list[Program]  the same, to be compiled
"""

import collections
import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import NamedSharding, Sharding

from talkverse_jax.core import tree
from talkverse_jax.core.stack import HOST
from talkverse_jax.ops.names import Products
from talkverse_jax.pipeline.clip import FPS
from talkverse_jax.pipeline.placement import Layouts
from talkverse_jax.sharding.fields import FieldAxes, axes_at
from talkverse_jax.sharding.layout import Layout, on_host, parameter_axes
from talkverse_jax.weights.component import Component


@dataclasses.dataclass(frozen=True)
class Work:
    """One program, by what the models ask for.

    Attributes:
      name: a denoising step's begins with the word "step".
      flops: the models' own, on all devices together.
      times: how often it runs ...
      when: ... in every `clip`, in the `first` alone, in a `video`, or in an `update` of training.
      component: whose weights it takes.
      beside: components whose weights stay in memory meanwhile.
      float32: its products are of float32.
      intermediate: bytes of its widest intermediate results, on all devices together; for estimates.
    """

    name: str
    flops: float
    times: int
    when: Literal["clip", "first", "video", "update"]
    component: str
    beside: tuple[str, ...] = ()
    float32: bool = False
    intermediate: int = 0


@dataclasses.dataclass(frozen=True)
class ClipWork:
    """What one clip and its conditions take.

    Attributes:
      height, width: pixels.
      frames: of a clip.
      steps: of denoising.
      branches: of guidance.
      programs: in the order of their cost to a person who waits.
      dtypes: of each component's parameters.
      fewest: branches of the steps that run fewer than all; 0: none does.
    """

    height: int
    width: int
    frames: int
    steps: int
    branches: int
    programs: tuple[Work, ...]
    dtypes: Mapping[str, str]
    fewest: int = 0

    @property
    def seconds(self) -> float:
        """Of the video that a clip shows."""
        return self.frames / FPS

    def __str__(self) -> str:
        branches = f", {self.branches} branches" if self.branches > 1 else ""
        return f"{self.width}x{self.height}, {self.frames} frames, {self.steps} steps{branches}"


class Call(NamedTuple):
    """A program and what it is called with.

    Attributes:
      function: jitted; `function.lower(*args, **static)`.
      args, static: arrays' shapes, types and shardings, among them the model's; and what is no array.
    """

    function: Any
    args: tuple[Any, ...]
    static: Mapping[str, Any] = {}


class Calls(NamedTuple):
    """What a run calls, with the very shapes, types and places: programs that are kept are found by these.

    Attributes:
      models: placed ones, by component (see `placed_models`).
      made: by name, in the order that a run comes to them; each is made when it is asked for.
    """

    models: dict[str, Any]
    made: dict[str, Callable[[], Call]]


@dataclasses.dataclass(frozen=True)
class Program:
    """Something to compile.

    Attributes:
      call: made when it is asked for, as tracing takes seconds.
      weights: bytes a device of the model's.
      beside: bytes a device of what else is in memory, by name.
    """

    work: Work
    call: Callable[[], Call]
    weights: int
    beside: Mapping[str, int]


def sampling_programs(clip: ClipWork, calls: Calls) -> list[Program]:
    """The programs of a clip; a call has the name of its work."""
    weights = {name: weight_bytes(model) for name, model in calls.models.items()}
    return [
        Program(work, calls.made[work.name], weights[work.component], {name: weights[name] for name in work.beside})
        for work in clip.programs
    ]


def placed_models(
    components: Mapping[str, Component],
    configs: Any,
    dtypes: Mapping[str, str],
    layouts: Layouts,
    int8: Products | None = None,
    **besides: Mapping[str, Any],
) -> dict[str, Any]:
    """The models by component, with their parameters' shapes and shardings in place of arrays.

    Args:
      int8: how layers compute whose kernels are int8, of all that can be; None: none is.
      besides: what a component's model alone takes, by its name.
    """
    models = {}
    for name, component in components.items():
        if (config := getattr(configs, name)) is None:  # an optional one
            continue
        model = component.abstract(
            config,
            jnp.dtype(dtypes[name]),
            layout=layouts[name],
            int8_products=int8,
            **besides.get(name, {}),
        )
        layout = layouts[name]
        sharding = layout.parameter_sharding(component.axes) if layout.mesh else _at(layout)
        sharding = on_host(sharding, tree.paths_on_host(model))
        parameters = {
            path: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding(path, x.shape))
            for path, x in tree.abstract_parameters(model).items()
        }
        models[name] = tree.with_parameters(model, parameters)
    return models


def _at(layout: Layout) -> Callable[..., Sharding]:
    place = layout.place()
    return lambda *_: place


def placed(made: Any, layout: Layout, axes: FieldAxes) -> Any:
    """The shapes of a pytree where `layout` puts its arrays."""

    def put(path: Any, x: Any) -> jax.ShapeDtypeStruct:
        return split_array(layout, *x.shape, axes=axes_at(path, x, axes), dtype=x.dtype)

    return jax.tree_util.tree_map_with_path(put, made)


def array(layout: Layout, *shape: int, axes: tuple[str | None, ...] = (), dtype: Any = jnp.float32) -> Any:
    """The shape of an array whose leading axes are named; whole on every device where they are not."""
    return jax.ShapeDtypeStruct(shape, dtype, sharding=layout.place(*axes))


def put_array(layout: Layout, *shape: int, dtype: Any = jnp.float32) -> Any:
    """The shape of what `layout.put` has brought from the host, which without a mesh may still go anywhere."""
    return jax.ShapeDtypeStruct(shape, dtype, sharding=layout.sharding())


def split_array(layout: Layout, *shape: int, axes: tuple[str | None, ...], dtype: Any = jnp.float32) -> Any:
    """The shape of an array that is split as far as its axes can be."""
    spec = layout.fitting_spec(shape, axes)
    return jax.ShapeDtypeStruct(
        shape, dtype, sharding=NamedSharding(layout.mesh, spec) if layout.mesh else layout.place()
    )


def keys_of(layout: Layout, samples: int) -> Any:
    """The shape of a random key for each sample, put likewise."""
    return jax.ShapeDtypeStruct((samples,), jax.eval_shape(jax.random.key, 0).dtype, sharding=layout.sharding())


def number(*shape: int, dtype: Any = jnp.float32) -> Any:
    """The shape of what comes from the host with every call."""
    return jax.ShapeDtypeStruct(shape, dtype)


def weight_bytes(model: nnx.Module) -> int:
    """Bytes of a placed model's parameters on one device."""
    return sum(shard_bytes(x) for x in tree.parameters(model).values())


def shard_bytes(x: jax.ShapeDtypeStruct) -> int:
    """Bytes of an array's part in one device's memory."""
    if x.sharding is not None and x.sharding.memory_kind == HOST:
        return 0
    shape = x.shape if x.sharding is None else x.sharding.shard_shape(x.shape)
    return math.prod(shape) * x.dtype.itemsize  # also of random keys


class ComponentBytes(NamedTuple):
    """Where a component's parameters lie; bytes a device.

    Attributes:
      device: in its memory for good.
      host: in the host's, copied for each call.
      buffers: of the copies, two layers at a time.
    """

    device: int
    host: int
    buffers: int


def component_bytes(
    component: Component, config: Any, dtype: str, layout: Layout | None, int8: bool = False
) -> ComponentBytes:
    """Of a component that need not be there; all on one device without a layout.

    Args:
      int8: of kernels that can be.
    """
    model = component.abstract(
        config,
        jnp.dtype(dtype),
        layout=Layout(resident=layout.resident if layout else None),
        int8_products="float" if int8 else None,
    )
    waiting, device, layers = tree.paths_on_host(model), 0, collections.Counter()
    for path, x in tree.abstract_parameters(model).items():
        names = parameter_axes(component.axes, path, len(x.shape))
        parts = layout.fitting_parts(x.shape, names) if layout else 1
        nbytes = math.prod(x.shape) * jnp.dtype(x.dtype).itemsize // parts
        if path in waiting:
            layers["/".join(path.split("/")[:2])] += nbytes
        else:
            device += nbytes
    return ComponentBytes(device, layers.total(), 2 * max(layers.values(), default=0))
