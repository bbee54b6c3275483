"""Strict pairing of a model's parameters with the tensors of PyTorch files: nothing missing, nothing left."""

import dataclasses
import fnmatch
from collections.abc import Callable, Mapping
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Sharding

from talkverse_jax.core import tree
from talkverse_jax.core.errors import UserError
from talkverse_jax.weights.lazy import Tensor
from talkverse_jax.weights.rule import Rule, find_rule


class TensorInfo(Protocol):
    """What matching needs to know of a tensor: numpy arrays and lazily read tensors have it."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> np.dtype: ...


@dataclasses.dataclass(frozen=True)
class Matched:
    """One parameter of ours and the tensor it comes from."""

    path: str
    name: str
    rule: Rule


@dataclasses.dataclass(frozen=True)
class Match:
    """The two-sided report of `match`.

    Attributes:
      pairs: what fits.
      missing: `(our path, PyTorch name)` the model needs and the files lack.
      unexpected: names in the files that no parameter takes.
      misshapen: `(name, shape in the file, shape the model needs)`, both in PyTorch's layout.
      integers: `(name, dtype)` of what fits but holds no floats: of a quantised file, which would load as noise.
    """

    pairs: tuple[Matched, ...]
    missing: tuple[tuple[str, str], ...]
    unexpected: tuple[str, ...]
    misshapen: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...]
    integers: tuple[tuple[str, np.dtype], ...] = ()

    @property
    def complete(self) -> bool:
        return not (self.missing or self.unexpected or self.misshapen or self.integers)

    def report(self, limit: int = 20) -> str:
        """Every difference, by side; at most `limit` lines a side."""
        lines = _some("missing in the files (the model needs it)", [n for _, n in self.missing], limit)
        lines += _some("unknown to the model (the files have it)", list(self.unexpected), limit)
        shapes = [f"{n}: {list(have)} in the file, {list(need)} needed" for n, have, need in self.misshapen]
        lines += _some("of another shape", shapes, limit)
        integers = [f"{n}: {dtype}" for n, dtype in self.integers]
        return "\n".join(lines + _some("of whole numbers, where the model has floats (quantised?)", integers, limit))


def _some(title: str, names: list[str], limit: int) -> list[str]:
    more = [f"    ... and {len(names) - limit} more"] if len(names) > limit else []
    return [f"  {title}: {len(names)}", *(f"    {n}" for n in names[:limit]), *more] if names else []


def torch_shapes(parameters: tree.Flat, rules: tuple[Rule, ...]) -> dict[str, tuple[int, ...]]:
    """The PyTorch names and shapes a model of these parameters has in its published files."""
    shapes = {}
    for path, leaf in parameters.items():
        rule, names = find_rule(rules, path)
        shapes[names[0]] = torch_shape(rule, leaf.shape)
    return shapes


def published_names(parameters: tree.Flat, rules: tuple[Rule, ...]) -> dict[str, str]:
    """The published name, by each name that files are known to have for it."""
    tables = (find_rule(rules, path)[1] for path in parameters)
    return {name: names[0] for names in tables for name in names}


def has_floats(tensor: TensorInfo) -> bool:
    """Whether its numbers can be a model's."""
    return tensor.dtype.kind not in "biuc"


def torch_shape(rule: Rule, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape a parameter of ours has in PyTorch."""
    return rule.layout.to_torch(np.broadcast_to(np.int8(0), shape)).shape


def match(
    parameters: tree.Flat,
    rules: tuple[Rule, ...],
    tensors: Mapping[str, TensorInfo],
    ignore: tuple[str, ...] = (),
) -> Match:
    """Pair every parameter with a tensor.

    Args:
      parameters: the model's parameters by path (abstract ones will do).
      tensors: the files' tensors by PyTorch name.
      ignore: shell patterns of names in the files that the model is known not to use.
    """
    pairs, missing, misshapen, integers, taken = [], [], [], [], set()
    for path, leaf in parameters.items():
        rule, names = find_rule(rules, path)
        name = next((n for n in names if n in tensors), None)
        if name is None:
            missing.append((path, names[0]))
            continue
        taken.add(name)
        need = torch_shape(rule, leaf.shape)
        if tuple(tensors[name].shape) != need:
            misshapen.append((name, tuple(tensors[name].shape), need))
        elif not has_floats(tensors[name]):
            integers.append((name, tensors[name].dtype))
        else:
            pairs.append(Matched(path, name, rule))
    left = sorted(n for n in set(tensors) - taken if not any(fnmatch.fnmatchcase(n, p) for p in ignore))
    return Match(tuple(pairs), tuple(missing), tuple(left), tuple(misshapen), tuple(integers))


def load_torch(
    module: tree.Model,
    rules: tuple[Rule, ...],
    tensors: Mapping[str, Tensor],
    where: str,
    ignore: tuple[str, ...] = (),
    place: Callable[[str, tuple[int, ...]], Sharding] | None = None,
) -> tree.Model:
    """The (abstract) module with parameters taken from PyTorch-named arrays, in the module's dtypes.

    Args:
      where: the file the arrays come from, for the error.
      place: the sharding of a parameter, by path and shape; by default the default device.

    Raises:
      UserError: with the two-sided report, where names or shapes differ.
    """
    parameters = tree.abstract_parameters(module)
    found = match(parameters, rules, tensors, ignore)
    if not found.complete:
        raise UserError(f"{where}: the tensors do not fit {type(module).__name__}:\n{found.report()}")

    def load(pair: Matched) -> jax.Array:
        leaf = parameters[pair.path]
        array = jnp.asarray(np.asarray(pair.rule.layout.from_torch(tensors[pair.name])), leaf.dtype)
        return jax.device_put(array, place(pair.path, leaf.shape)) if place else array

    return tree.with_parameters(module, {pair.path: load(pair) for pair in found.pairs})
