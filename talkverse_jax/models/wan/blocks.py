"""Layers in runs of one pattern, which is compiled once however often it is repeated; weights gathered as they go.

Compiled for a TPU on two cores, one linear layer takes XLA a second or more (2026-11-21): 30 blocks one by one
would take ten minutes. On a CPU they are kept apart: there a scan turns all bfloat16 weights to float32 first.
Each place of the pattern has a stack of its own. (One stack for all, and a scan within a scan, would copy every
weight once more a step: the outer loop cuts out what the inner one reads.)

A model keeps `runs = make_runs(...)`, and calls

    conditions = prepare(runs, {kind: layer -> what it needs of a clip})          once a clip
    x = through(runs, x, conditions, {kind: (layer, x, its condition) -> x})      once a step
"""

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from flax import nnx

from talkverse_jax.core.stack import Stack, fold
from talkverse_jax.models.wan.taps import NO_TAPS, Taps
from talkverse_jax.ops.names import Remat
from talkverse_jax.ops.remat import rematerialised
from talkverse_jax.sharding.layout import Layout, ParameterAxes

Pattern = tuple[tuple[str, ...], ...]  # paths of layers, by place in the pattern and then by repeat
Conditions = tuple[tuple[Any, ...], ...]  # by run and place; along a first axis where that is repeated


class Run(nnx.Module):
    """Repeats of some layers.

    Args:
      pattern: a path is a kind and a number, such as `blocks/3`.
      make: a layer of each kind.
      axes: of the parameters.
      remat: what a gradient's backward pass finds kept of a layer, and what it computes again.
    """

    def __init__(
        self,
        pattern: Pattern,
        make: Mapping[str, Callable[[nnx.Rngs], nnx.Module]],
        *,
        layout: Layout,
        axes: ParameterAxes,
        remat: Remat,
        rngs: nnx.Rngs,
    ):
        self.pattern = pattern
        self.layout = layout
        self.axes = axes
        self.remat: Remat = remat
        self.kinds = tuple(_kind(paths[0]) for paths in pattern)
        self.stages = nnx.List([Stack(paths, make[kind], rngs) for kind, paths in zip(self.kinds, pattern)])

    def prepare(self, functions: Mapping[str, Callable[[Any], Any]]) -> tuple[Any, ...]:
        return tuple(stack.map(self._whole(functions[kind])) for kind, stack in zip(self.kinds, self.stages))

    def __call__(self, x: Any, conditions: tuple[Any, ...], steps: Mapping[str, Callable], taps: Taps) -> Any:
        graphdefs, states = zip(*(nnx.split(stack.layers) for stack in self.stages))
        of_stages = [self._whole(steps[kind]) for kind in self.kinds]
        repeats = len(self.pattern[0])
        taps = taps if repeats == 1 else NO_TAPS

        def once(x: Any, item: tuple[Sequence[nnx.State], tuple[Any, ...]]) -> Any:
            for step, graphdef, state, condition, paths in zip(of_stages, graphdefs, *item, self.pattern):
                x = step(nnx.merge(graphdef, state), x, condition)
                taps.keep(paths[0], x)
            return x

        return fold(once, x, (states, conditions), repeats)

    def _whole(self, step: Callable) -> Callable:
        """`step` with its layer's weights whole, gathered within: a backward pass gathers once more instead of
        keeping them."""
        return rematerialised(lambda layer, *args: step(self.layout.gathered(layer, self.axes), *args), self.remat)


def make_runs(
    groups: Sequence[Sequence[str]],
    make: Mapping[str, Callable[[nnx.Rngs], nnx.Module]],
    *,
    scan: bool | None,
    part_at: int,
    layout: Layout,
    **kwargs: Any,
) -> nnx.List:
    """All layers of a model.

    Args:
      groups: their paths in order: each block with what comes after it.
      scan: compile layers of one pattern once; by default everywhere but on a CPU.
      part_at: no run holds groups before and from this one, so that these alone can be trained.
      make, layout, kwargs: of `Run`.
    """
    scan = layout.platform != "cpu" if scan is None else scan
    patterns = find_patterns(groups, scan, part_at)
    return nnx.List([Run(pattern, make, layout=layout, **kwargs) for pattern in patterns])


def prepare(runs: Iterable[Run], functions: Mapping[str, Callable[[Any], Any]]) -> Conditions:
    """What each layer needs of a clip, by a function for each kind of layer."""
    return tuple(run.prepare(functions) for run in runs)


def through(
    runs: Iterable[Run],
    x: Any,
    conditions: Conditions,
    steps: Mapping[str, Callable[[Any, Any, Any], Any]],
    taps: Taps = NO_TAPS,
) -> Any:
    """The stream after all layers.

    Args:
      conditions: of `prepare`.
      steps: for each kind of layer, the stream after one, given the layer, the stream and its condition.
      taps: keeps the stream after every layer, by its path; within repeated layers nothing can be seen.
    """
    for run, of_run in zip(runs, conditions, strict=True):
        x = run(x, of_run, steps, taps)
    return x


def whole_weights(axes: ParameterAxes) -> Callable[[Callable], Callable]:
    """Of a model's method: it finds the weights whole, but for the runs', which gather theirs as they go."""

    def of_method(method: Callable) -> Callable:
        @functools.wraps(method)
        def call(self, *args, **kwargs):
            return method(self.layout.gathered(self, axes), *args, **kwargs)

        return call

    return of_method


def find_patterns(groups: Sequence[Sequence[str]], scan: bool, part_at: int = 0) -> list[Pattern]:
    """All layers in order, in the fewest runs that must be compiled: what repeats is one. Without `scan`, every
    group is a run of its own.

    Args:
      groups, part_at: see `make_runs`.
    """
    if not scan:
        return [tuple((path,) for path in group) for group in groups]
    halves = ([path for group in half for path in group] for half in (groups[:part_at], groups[part_at:]))
    return [pattern for half in halves for pattern in _repeats(half)]


def _kind(path: str) -> str:
    return path.rpartition("/")[0]


def _repeats(paths: list[str]) -> list[Pattern]:
    """The layers as repeats of a pattern, and of another in what is left: the fewest layers in patterns."""
    if not paths:
        return []
    kinds = [_kind(path) for path in paths]

    def times(length: int) -> int:
        count = 1
        while kinds[count * length : (count + 1) * length] == kinds[:length]:
            count += 1
        return count

    length = min(range(1, len(kinds) + 1), key=lambda length: length + len(kinds) - length * times(length))
    end = length * times(length)
    return [tuple(tuple(paths[place:end:length]) for place in range(length)), *_repeats(paths[end:])]
