"""Models in parts on several devices, and what their compiled programs exchange."""

import math
import re
from typing import TypeVar

import jax
import numpy as np
from flax import nnx

from talkverse_jax.core import tree
from talkverse_jax.sharding.layout import Layout, ParameterAxes

Module = TypeVar("Module", bound=nnx.Module)


def sharded(model: Module, layout: Layout, axes: ParameterAxes, **options) -> Module:
    """The same parameters on all devices of a layout, a part on each.

    Args:
      options: what the model alone takes.
    """
    where = layout.parameter_sharding(axes)
    abstract = tree.abstract(type(model), model.config, layout=layout, **options)
    placed = {path: jax.device_put(x, where(path, x.shape)) for path, x in tree.parameters(model).items()}
    return tree.with_parameters(abstract, placed)


def shares(module: nnx.Module) -> dict[str, float]:
    """The part of every parameter that one device holds."""
    return {path: x.addressable_shards[0].data.size / x.size for path, x in tree.parameters(module).items()}


def share_of_all(module: nnx.Module, layout: Layout, axes: ParameterAxes) -> float:
    """The part of all parameters that one device would hold of an abstract module."""
    where, full = layout.parameter_sharding(axes), tree.abstract_parameters(module)
    local = sum(math.prod(where(path, x.shape).shard_shape(x.shape)) for path, x in full.items())
    return local / sum(x.size for x in full.values())


def collectives(program: str, kind: str) -> list[int]:
    """The sizes of what the float32 collectives of one kind give, of a compiled program's text."""
    found = re.findall(rf"f32\[([\d,]*)\]\S*(?:, \S+)*?\)? {kind}(?:-start)?\(", program)
    return [math.prod(map(int, dims.split(","))) for dims in found]


def arrays(program: str) -> list[int]:
    """The sizes of all float32 arrays in a compiled program's text: those on one device."""
    return [math.prod(map(int, dims.split(","))) for dims in re.findall(r" = f32\[([\d,]+)\]", program)]


def error(ours, reference) -> float:
    """The largest difference, relative to the largest number."""
    assert ours.shape == reference.shape
    return float(np.abs(np.asarray(ours) - np.asarray(reference)).max() / np.abs(np.asarray(reference)).max())
