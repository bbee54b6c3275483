"""The language in which a model's weight table is written: our path, the PyTorch names, the layout change.

A model's table stands beside the model (`models/*/keys.py`) and is a tuple of `Rule`. A `*` in a
rule stands for one path element (a layer's number) and is the same text on both sides:

    Rule("blocks/*/self_attn/q/kernel", "blocks.*.self_attn.q.weight", LINEAR)
"""

import dataclasses
import functools
import re
from typing import overload

import numpy as np

from talkverse_jax.weights.lazy import LazyTensor, Tensor


@dataclasses.dataclass(frozen=True)
class TensorLayout:
    """How a PyTorch tensor is laid out as ours, and back: drop the axes of length one in `squeeze`, then
    transpose. Both ways are views; nothing is copied."""

    squeeze: tuple[int, ...] = ()
    transpose: tuple[int, ...] | None = None

    @overload
    def from_torch(self, array: np.ndarray) -> np.ndarray: ...

    @overload
    def from_torch(self, array: LazyTensor) -> LazyTensor: ...

    def from_torch(self, array: Tensor) -> Tensor:
        array = array.squeeze(self.squeeze) if self.squeeze else array
        return array.transpose(self.transpose) if self.transpose else array

    def to_torch(self, array: np.ndarray) -> np.ndarray:
        array = array.transpose(np.argsort(self.transpose)) if self.transpose else array
        return np.expand_dims(array, self.squeeze) if self.squeeze else array


SAME = TensorLayout()
LINEAR = TensorLayout(transpose=(1, 0))  # [out, in] -> [in, out]
CONV1D = TensorLayout(transpose=(2, 1, 0))  # [out, in, t] -> [t, in, out]
CONV2D = TensorLayout(transpose=(2, 3, 1, 0))  # [out, in, y, x] -> [y, x, in, out]
CONV3D = TensorLayout(transpose=(2, 3, 4, 1, 0))  # [out, in, t, y, x] -> [t, y, x, in, out]
POINTWISE2D = TensorLayout(squeeze=(2, 3), transpose=(1, 0))  # [out, in, 1, 1] -> [in, out]
POINTWISE3D = TensorLayout(squeeze=(2, 3, 4), transpose=(1, 0))  # [out, in, 1, 1, 1] -> [in, out]


@dataclasses.dataclass(frozen=True)
class Rule:
    """One row of a weight table.

    Attributes:
      path: our path, slash-separated; `*` matches one element.
      name: the PyTorch name, dot-separated, with as many `*`; a tuple where files are known to differ
        (the first is written on export).
      layout: PyTorch layout -> ours.
    """

    path: str
    name: str | tuple[str, ...]
    layout: TensorLayout = SAME

    @property
    def names(self) -> tuple[str, ...]:
        return (self.name,) if isinstance(self.name, str) else self.name


def linear(path: str, name: str) -> tuple[Rule, Rule]:
    """The rules of a linear layer with bias."""
    return Rule(f"{path}/kernel", f"{name}.weight", LINEAR), Rule(f"{path}/bias", f"{name}.bias")


def norm(path: str, name: str) -> tuple[Rule, Rule]:
    """The rules of a norm with scale and bias."""
    return Rule(f"{path}/scale", f"{name}.weight"), Rule(f"{path}/bias", f"{name}.bias")


@functools.cache  # a table is gone through for every parameter
def _expression(path: str) -> re.Pattern[str]:
    """What matches our paths of a rule, and finds what stands for its stars."""
    return re.compile(re.escape(path).replace(r"\*", "([^/]+)"))


def _fill(pattern: str, stars: tuple[str, ...]) -> str:
    for star in stars:
        pattern = pattern.replace("*", star, 1)
    return pattern


def find_rule(rules: tuple[Rule, ...], path: str) -> tuple[Rule, tuple[str, ...]]:
    """The one rule for our `path` and the PyTorch names it gives.

    Raises:
      LookupError: no rule or more than one applies: the table is wrong.
    """
    found = [(rule, stars) for rule in rules if (stars := _expression(rule.path).fullmatch(path))]
    if len(found) != 1:
        raise LookupError(f"{path}: {len(found)} rules of the weight table apply; there must be one")
    [(rule, stars)] = found
    return rule, tuple(_fill(name, stars.groups()) for name in rule.names)


def torch_tensor(rules: tuple[Rule, ...], path: str, value: np.ndarray) -> tuple[str, np.ndarray]:
    """A parameter by its PyTorch name, in PyTorch's layout."""
    rule, names = find_rule(rules, path)
    return names[0], rule.layout.to_torch(value)
