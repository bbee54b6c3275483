"""Layers in runs, whatever they are: compiled once or one by one, the numbers are those of a plain loop."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import SingleDeviceSharding

from talkverse_jax.core import tree
from talkverse_jax.models.wan import blocks
from talkverse_jax.models.wan.block import Block
from talkverse_jax.models.wan.taps import NO_TAPS, Taps
from talkverse_jax.ops.attention import Attention
from talkverse_jax.ops.rope import grid_positions, rope_tables
from talkverse_jax.sharding.layout import Layout
from tests.tiny import TINY, random_module


class PlainTrunk(nnx.Module):
    """A family of plain blocks: all tokens share a timestep, and nothing stands between blocks."""

    def __init__(
        self, config, *, rngs, dtype=jnp.float32, param_dtype=jnp.float32, scan=False, remat="none", layout=Layout()
    ):
        self.layout, self.head_dim = layout, config.head_dim
        make = {
            "blocks": lambda rngs: Block(config, Attention(layout), rngs=rngs, dtype=dtype, param_dtype=param_dtype)
        }
        groups = [(f"blocks/{i}",) for i in range(config.num_layers)]
        compiled: dict[str, Any] = dict(layout=self.layout, axes=(), scan=scan, remat=remat, part_at=0)
        self.runs = blocks.make_runs(groups, make, rngs=rngs, **compiled)

    @blocks.whole_weights(())
    def __call__(self, x, time, text, taps=NO_TAPS):
        rope = rope_tables(grid_positions(range(x.shape[1]), [0], [0]), self.head_dim)
        context = blocks.prepare(self.runs, {"blocks": lambda block: block.cross_attn.key_values(text)})

        def run_block(block, x, context):
            return block(x, block.modulation_at(time[:, None]), context, rope, x.shape[1])

        return blocks.through(self.runs, x, context, {"blocks": run_block}, taps)


def _model(**kwargs):
    plain = random_module(PlainTrunk, TINY.trunk)
    other = tree.abstract(PlainTrunk, TINY.trunk, **kwargs)
    return tree.with_parameters(other, tree.parameters(plain))


def _inputs():
    keys = jax.random.split(jax.random.key(0), 3)
    shapes = (2, 7, 64), (2, 6, 64), (2, 5, 64)
    return [jax.random.normal(key, shape) for key, shape in zip(keys, shapes)]


@jax.jit
def _call(model, *inputs):
    return model(*inputs)


@jax.jit
@jax.grad
def _gradient(model):
    return jnp.square(model(*_inputs())).mean()


def test_a_scan_computes_what_blocks_one_by_one_do():
    one_by_one, scanned = _model(scan=False), _model(scan=True)
    assert [len(model.runs) for model in (one_by_one, scanned)] == [3, 1]
    assert tree.abstract_parameters(one_by_one).keys() == tree.abstract_parameters(scanned).keys()
    np.testing.assert_allclose(_call(scanned, *_inputs()), _call(one_by_one, *_inputs()), atol=1e-5)


def test_a_block_is_its_three_stages():
    x, time, text = _inputs()
    model, positions = _model(), grid_positions(range(7), [0], [0])
    rope = rope_tables(positions, TINY.trunk.head_dim)
    expected = x
    for run in model.runs:
        block = run.stages[0].layers
        vectors = time[:, :, None] + block.modulation.get_value()[:, None]
        shift1, scale1, gate1, shift2, scale2, gate2 = np.moveaxis(vectors, 1, 0)
        expected += gate1 * block.self_attn(block.norm1(expected) * (1 + scale1) + shift1, rope, 7)
        expected += block.cross_attn(block.norm3(expected), block.cross_attn.key_values(text))
        expected += gate2 * block.ffn(block.norm2(expected) * (1 + scale2) + shift2)
    np.testing.assert_allclose(_call(model, x, time, text), expected, atol=2e-5)


@pytest.mark.slow
def test_gradients_are_those_of_the_plain_path():
    plain = jax.tree.leaves(tree.parameters(_gradient(_model())))
    for changes in (dict(remat="dots"), dict(remat="stages"), dict(scan=True, remat="full")):
        for found, expected in zip(jax.tree.leaves(tree.parameters(_gradient(_model(**changes)))), plain, strict=True):
            np.testing.assert_allclose(found, expected, atol=1e-5 * max(1e-3, np.abs(expected).max()))


@pytest.mark.parametrize("scan, names", [(False, ["blocks/0", "blocks/1", "blocks/2"]), (True, [])])
def test_taps_see_the_stream_after_each_layer_that_is_not_repeated(scan, names):
    model, taps = _model(scan=scan), Taps()
    out = model(*_inputs(), taps)
    assert list(taps.values) == names
    if names:
        np.testing.assert_array_equal(taps.values["blocks/2"], out)


def _streamed(model, resident: int, scan: bool):
    """The same model, its blocks from one on in host memory."""
    other = tree.abstract(PlainTrunk, TINY.trunk, scan=scan, layout=Layout(resident=resident))
    on_host = tree.paths_on_host(other)
    device = SingleDeviceSharding(jax.devices()[0])
    place = {path: device.with_memory_kind("pinned_host") if path in on_host else device for path in _paths(other)}
    values = {path: jax.device_put(value, place[path]) for path, value in tree.parameters(model).items()}
    return tree.with_parameters(other, values), on_host


def _paths(model):
    return tree.abstract_parameters(model)


@pytest.mark.parametrize("scan", [False, True])
@pytest.mark.parametrize("resident", [0, 1, 2])
def test_blocks_from_host_memory_compute_what_others_do(scan, resident):
    model = _model(scan=scan)
    streamed, on_host = _streamed(model, resident, scan)
    assert {path.split("/")[1] for path in on_host} == {str(number) for number in range(resident, 3)}
    kernel = streamed.runs[-1].stages[0].layers.ffn.linear_in.kernel.get_value()
    assert kernel.sharding.memory_kind == "pinned_host"
    assert all(path.rpartition("/")[2] in ("kernel", "modulation") for path in on_host)
    np.testing.assert_allclose(_call(streamed, *_inputs()), _call(model, *_inputs()), atol=1e-6)


GROUPS = [("a/0", "b/0"), ("a/1",), ("a/2", "b/1"), ("a/3",), ("a/4",)]


def test_layers_between_blocks_are_part_of_the_pattern():
    two = (("a/0", "a/2"), ("b/0", "b/1"), ("a/1", "a/3"))
    assert blocks.find_patterns(GROUPS, scan=True) == [two, (("a/4",),)]
    assert blocks.find_patterns(GROUPS, scan=False) == [tuple((path,) for path in group) for group in GROUPS]
    parted = [(("a/0",),), (("b/0",),), (("a/1", "a/2"),), (("b/1",),), (("a/3", "a/4"),)]
    assert blocks.find_patterns(GROUPS, True, 1) == parted
    assert blocks.find_patterns(GROUPS, True, 1, 9) == parted


class Add(nnx.Module):
    """x + weight * condition."""

    def __init__(self, rngs):
        self.weight = nnx.Param(jax.random.normal(rngs.params(), (3,)))


@pytest.mark.parametrize("scan", [False, True])
def test_each_layer_gets_its_own_condition(scan):
    compiled: dict[str, Any] = dict(layout=Layout(), axes=(), remat="none", part_at=0)
    runs = blocks.make_runs(GROUPS, {"a": Add, "b": Add}, scan=scan, rngs=nnx.Rngs(0), **compiled)
    conditions = blocks.prepare(runs, {kind: lambda layer: layer.weight.get_value().sum() for kind in "ab"})
    steps = {
        "a": lambda layer, x, condition: x + layer.weight.get_value() * condition,
        "b": lambda layer, x, condition: x * (1 + layer.weight.get_value() * condition),
    }
    found = blocks.through(runs, jnp.ones(3), conditions, steps)
    weights = {path.removesuffix("/weight"): value for path, value in tree.parameters(_Holder(runs)).items()}
    expected = np.ones(3)
    for path in (path for group in GROUPS for path in group):
        change = weights[path] * weights[path].sum()
        expected = expected + change if path.startswith("a") else expected * (1 + change)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


class _Holder(nnx.Module):
    def __init__(self, runs):
        self.runs = runs
