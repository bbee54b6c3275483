"""Layers in runs of one pattern, which is compiled once however often it is repeated; weights gathered as they go.

Compiled for a TPU on two cores, one linear layer takes XLA a second or more (2026-11-21): 30 blocks one by one
would take ten minutes. On a CPU they are kept apart: there a scan turns all bfloat16 weights to float32 first.
Each place of the pattern has a stack of its own. (One stack for all, and a scan within a scan, would copy every
weight once more a step: the outer loop cuts out what the inner one reads.)

Where the layout keeps some blocks in host memory (`Layout.resident`), each is copied into the device's while the one
before it computes, so two are there at a time. XLA:TPU (libtpu 0.0.51) overlaps the two only in a loop of two blocks a
turn: of one, the copy's place is where the block at work lies.

A model keeps `runs = make_runs(...)`, and calls

    conditions = prepare(runs, {kind: layer -> what it needs of a clip})          once a clip
    x = through(runs, x, conditions, {kind: (layer, x, its condition) -> x})      once a step
"""

import functools
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from flax import nnx

from talkverse_jax.core.stack import Stack, fold, on_device
from talkverse_jax.models.wan.linear import joined
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
      streamed: whether the layers lie in host memory.
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
        streamed: bool = False,
    ):
        self.pattern = pattern
        self.layout = layout
        self.axes = axes
        self.remat: Remat = remat
        self.kinds = tuple(_kind(paths[0]) for paths in pattern)
        self.streamed = streamed
        self.stages = nnx.List([Stack(paths, make[kind], rngs, streamed) for kind, paths in zip(self.kinds, pattern)])

    def prepare(self, functions: Mapping[str, Callable[[Any], Any]]) -> tuple[Any, ...]:
        def of(stack: Stack, function: Callable[[Any], Any]) -> Any:
            whole = self._whole(function)
            return stack.map(lambda layer: whole(on_device(layer)) if self.streamed else whole(layer))

        return tuple(of(stack, functions[kind]) for kind, stack in zip(self.kinds, self.stages))

    def __call__(self, x: Any, conditions: tuple[Any, ...], steps: Mapping[str, Callable], taps: Taps) -> Any:
        graphdefs, states = zip(*(nnx.split(stack.layers) for stack in self.stages))
        of_stages = [self._whole(steps[kind]) for kind in self.kinds]
        repeats = len(self.pattern[0])
        taps = taps if repeats == 1 else NO_TAPS

        if self.streamed:
            return self._stream(x, conditions, list(zip(of_stages, graphdefs, states)), taps)

        def once(x: Any, item: tuple[Sequence[nnx.State], tuple[Any, ...]]) -> Any:
            for step, graphdef, state, condition, paths in zip(of_stages, graphdefs, *item, self.pattern):
                x = step(nnx.merge(graphdef, state), x, condition)
                taps.keep(paths[0], x)
            return x

        return fold(once, x, (states, conditions), repeats)

    def _stream(self, x: Any, conditions: tuple[Any, ...], stages: Sequence[tuple[Any, Any, Any]], taps: Taps) -> Any:
        """As `__call__`, where each layer is copied from host memory while the one before it computes."""
        repeats = len(self.pattern[0])

        def copied(place: int, repeat: Any) -> Any:
            state = stages[place][2]
            if repeats > 1:
                state = jax.tree.map(lambda leaf: jax.lax.dynamic_index_in_dim(leaf, repeat, keepdims=False), state)
            return on_device(state)

        def once(carry: tuple[Any, Any], item: tuple[Any, tuple[Any, ...]]) -> tuple[Any, Any]:
            (x, here), (repeat, own) = carry, item
            for place, (step, graphdef, _) in enumerate(stages):
                ends = place + 1 == len(stages)  # behind the last repeat the first layer comes again, and is not used
                following = copied(0, (repeat + 1) % repeats) if ends else copied(place + 1, repeat)
                x = step(nnx.merge(graphdef, here), x, own[place])
                taps.keep(self.pattern[place][0], x)
                here = following
            return x, here

        items = (np.arange(repeats) if repeats > 1 else 0, conditions)
        return fold(once, (x, copied(0, 0)), items, repeats, unroll=2 if len(stages) == 1 else 1)[0]

    def _whole(self, step: Callable) -> Callable:
        """`step` with its layer's weights whole and its adapters joined to them, gathered within: a backward pass
        gathers once more instead of keeping them."""

        def of_whole(layer: Any, *args: Any) -> Any:
            return step(self.layout.gathered(joined(layer), self.axes), *args)

        return rematerialised(of_whole, self.remat)


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
    resident = len(groups) if layout.resident is None else layout.resident
    waiting = {path for group in groups[resident:] for path in group}
    patterns = find_patterns(groups, scan, part_at, resident)
    return nnx.List(
        [Run(pattern, make, layout=layout, streamed=pattern[0][0] in waiting, **kwargs) for pattern in patterns]
    )


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


def find_patterns(groups: Sequence[Sequence[str]], scan: bool, *part_at: int) -> list[Pattern]:
    """All layers in order, in the fewest runs that must be compiled: what repeats is one. Without `scan`, every
    group is a run of its own.

    Args:
      groups: see `make_runs`.
      part_at: no run holds groups before and from one of these.
    """
    if not scan:
        return [tuple((path,) for path in group) for group in groups]
    ends = sorted({0, *part_at, len(groups)})
    parts = ([path for group in groups[start:end] for path in group] for start, end in itertools.pairwise(ends))
    return [pattern for part in parts for pattern in _repeats(part)]


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
