"""Where arrays lie: a mesh, the rules, and what follows from both for an array whose axes have names."""

import dataclasses
import fnmatch
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any, TypeVar

import jax
from flax import nnx
from jax import Device
from jax.sharding import Mesh, NamedSharding, PartitionSpec, Sharding, SingleDeviceSharding
from jaxtyping import Array

from talkverse_jax.core.errors import UserError
from talkverse_jax.core.stack import HOST, Stack
from talkverse_jax.sharding.rules import SAMPLING, Rules

# Of a model: patterns of parameter paths, and the logical axes of the parameters (None: never split).
ParameterAxes = tuple[tuple[str, tuple[str | None, ...]], ...]
PlaceOf = Callable[[str, tuple[int, ...]], Sharding]  # of a parameter, by its path and shape
Model = TypeVar("Model", bound=nnx.Module)


_ALONE: ContextVar[Any] = ContextVar("device of layouts without a mesh", default=None)


@contextmanager
def alone_on(device: Any) -> Iterator[None]:
    """Within the block, a layout without a mesh is for that device, of this machine or of a topology."""
    token = _ALONE.set(device)
    try:
        yield
    finally:
        _ALONE.reset(token)


@dataclasses.dataclass(frozen=True)
class Layout:
    """How arrays are split. Without a mesh nothing is, and `constrain` returns what it was given.

    Hashable, so that a model can hold it as a static attribute: another layout is another program.

    Attributes:
      resident: how many of a transformer's blocks stay in the devices' memory, the first; the others come from the
        host's whenever they are used. None: all stay.
    """

    mesh: Mesh | None = None
    rules: Rules = SAMPLING
    resident: int | None = None

    @property
    def device(self) -> Device:  # pyright: ignore[reportInvalidTypeForm]  # jaxlib's stub has a variable
        """The first one, which may be of a topology that is only compiled for (`alone_on`)."""
        return self.mesh.devices.flat[0] if self.mesh else _ALONE.get() or jax.local_devices()[0]

    @property
    def platform(self) -> str:
        """Of the devices: `tpu`, `gpu` or `cpu`."""
        return self.device.platform

    @property
    def device_kind(self) -> str:
        """As JAX names it, such as `TPU v6 lite`."""
        return self.device.device_kind

    def axes_of(self, name: str | None) -> tuple[str, ...]:
        """The mesh axes of more than one device that a logical axis is split over."""
        if name is None or self.mesh is None:
            return ()
        return tuple(axis for axis in getattr(self.rules, name) if self.mesh.shape[axis] > 1)

    def parts(self, name: str) -> int:
        """Into how many parts a logical axis is split."""
        return self.size(self.axes_of(name))

    def spec(self, *names: str | None) -> PartitionSpec:
        """Of an array with these logical axes.

        Raises:
          ValueError: two of them are split over one mesh axis.
        """
        return PartitionSpec(*[group or None for group in self._groups(names)])

    def fitting_spec(self, shape: Sequence[int], names: Sequence[str | None]) -> PartitionSpec:
        """As `spec`, but an axis is split over the mesh axes that divide its length only."""
        groups = []
        for length, group in zip(shape, self._groups(names)):
            kept: tuple[str, ...] = ()
            for axis in group:
                if length % self.size((*kept, axis)) == 0:
                    kept += (axis,)
            groups.append(kept or None)
        return PartitionSpec(*groups)

    def fitting_parts(self, shape: Sequence[int], names: Sequence[str | None]) -> int:
        """Into how many parts `fitting_spec` cuts an array."""
        axes = jax.tree.leaves(tuple(self.fitting_spec(shape, names)))
        return self.size(axes)

    def size(self, axes: Iterable[str]) -> int:
        """How many devices these mesh axes have together."""
        return 1 if self.mesh is None else math.prod(self.mesh.shape[axis] for axis in axes)

    def _groups(self, names: Sequence[str | None]) -> list[tuple[str, ...]]:
        groups = [self.axes_of(name) for name in names]
        used = [axis for group in groups for axis in group]
        if len(used) != len(set(used)):
            raise ValueError(f"{names}: two dimensions on one mesh axis: {groups}")
        return groups

    def sharding(self, *names: str | None) -> NamedSharding | None:
        """Of an array with these logical axes; none: replicated. None without a mesh."""
        return None if self.mesh is None else NamedSharding(self.mesh, self.spec(*names))

    def place(self, *names: str | None) -> Sharding:
        """As `sharding`; without a mesh, the one device."""
        return self.sharding(*names) or SingleDeviceSharding(self.device)

    def constrain(self, x: Array, *names: str | None) -> Array:
        """Within jit: have `x`, whose axes are named, split so."""
        if self.mesh is None:
            return x
        spec = self.fitting_spec(x.shape, names)
        return jax.lax.with_sharding_constraint(x, NamedSharding(self.mesh, spec))

    def put(self, x, *names: str | None) -> Array:
        """Outside jit: place an array that every process holds whole; without a mesh, on the default device."""
        if self.mesh is None:
            return jax.numpy.asarray(x)
        return jax.device_put(x, NamedSharding(self.mesh, self.fitting_spec(x.shape, names)))

    def parameter_sharding(self, axes: ParameterAxes) -> Callable[[str, tuple[int, ...]], NamedSharding]:
        """The sharding of a model's parameters by path and shape, as `store.load_module` takes it."""

        def place(path: str, shape: tuple[int, ...]) -> NamedSharding:
            assert self.mesh is not None, "without a mesh nothing is split"
            return NamedSharding(self.mesh, self.fitting_spec(shape, parameter_axes(axes, path, len(shape))))

        return place

    def gathered(self, module: Model, axes: ParameterAxes) -> Model:
        """Within jit: the module with its parameters whole along `width`, as its layers use them; those of
        stacked layers stay as they are. Gradients are added up into the parts, where each device keeps its own."""
        if self.mesh is None or not self.axes_of("width"):
            return module
        mesh = self.mesh
        whole = dataclasses.replace(self, rules=dataclasses.replace(self.rules, width=()))
        stacks = [path for path, node in nnx.iter_graph(module) if isinstance(node, Stack)]
        graphdef, state, rest = nnx.split(module, nnx.Param, ...)
        flat = []
        for path, variable in nnx.to_flat_state(state):
            if not any(path[: len(stack)] == stack for stack in stacks):
                value = variable.get_value()
                names = parameter_axes(axes, "/".join(map(str, path)), value.ndim)
                specs = (layout.fitting_spec(value.shape, names) for layout in (whole, self))
                variable = variable.replace(_gather(value, *(NamedSharding(mesh, spec) for spec in specs)))
            flat.append((path, variable))
        return nnx.merge(graphdef, nnx.from_flat_state(flat), rest)


def on_host(place: PlaceOf, paths: Collection[str]) -> PlaceOf:
    """The same places, those of some parameters in host memory."""

    def of(path: str, shape: tuple[int, ...]) -> Sharding:
        sharding = place(path, shape)
        return sharding.with_memory_kind(HOST) if path in paths else sharding

    return of


@partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _gather(x: Array, whole: NamedSharding, part: NamedSharding) -> Array:
    """`x`, of which each device has its `part`, `whole`. (A constraint's gradient is constrained as it is: each
    device would be given the sum of the whole gradient.)"""
    return jax.lax.with_sharding_constraint(x, whole)


_gather.defvjp(
    lambda x, whole, part: (_gather(x, whole, part), None),
    lambda whole, part, _, gradient: (jax.lax.with_sharding_constraint(gradient, part),),
)


def parameter_axes(axes: ParameterAxes, path: str, ndim: int) -> tuple[str | None, ...]:
    """The logical axes of the parameter at `path`: of the first pattern that fits; none are named else."""
    for pattern, names in axes:
        if fnmatch.fnmatchcase(path, pattern):
            return (None,) * (ndim - len(names)) + names
    return (None,) * ndim


def check_divides(what: str, length: int, layout: Layout, name: str) -> None:
    """Make sure that a length can be split evenly.

    Raises:
      UserError: it cannot; the message says into how many parts it can.
    """
    parts = layout.parts(name)
    if length % parts:
        ways = ", ".join(str(n) for n in range(1, min(length, 256) + 1) if length % n == 0)
        raise UserError(f"mesh: {what} {length} cannot be split into {parts} ({name}); {ways} divide it")
