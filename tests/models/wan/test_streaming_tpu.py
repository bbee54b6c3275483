"""Blocks in host memory, compiled for a TPU: each is copied while the one before it computes; and those of int8."""

import dataclasses
import functools
import importlib.util
import re
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from talkverse_jax.core import tree
from talkverse_jax.models.wan.linear import Linear
from talkverse_jax.pipeline.programs import shard_bytes
from talkverse_jax.plan.hlo_text import parse
from talkverse_jax.sharding import topologies
from talkverse_jax.sharding.layout import Layout, on_host
from talkverse_jax.sharding.mesh import make_mesh
from talkverse_jax.sharding.mesh_config import MeshConfig
from tests.models.wan.test_blocks import PlainTrunk
from tests.tiny import TINY

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="libtpu is not installed"),
    pytest.mark.slow,
]
TOKENS, BLOCKS = 4096, 6
CONFIG = dataclasses.replace(TINY.trunk, dim=1024, ffn_dim=4096, num_heads=8, num_layers=BLOCKS)


@functools.cache
def compiled(resident: int | None, products: Any = None) -> tuple[Any, int]:
    """A trunk of a few wide blocks, and the bytes of its parameters in the device's memory."""
    devices = topologies.devices(topologies.find("v6e-1"))
    layout = Layout(make_mesh(MeshConfig(), devices, CONFIG.num_heads), resident=resident)
    model = tree.abstract(PlainTrunk, CONFIG, layout=layout, scan=True, dtype=jnp.bfloat16, param_dtype=jnp.bfloat16)
    for _, layer in nnx.iter_graph(model):
        if isinstance(layer, Linear) and products:
            layer.quantise(products)
    place = on_host(layout.parameter_sharding(()), tree.paths_on_host(model))
    parameters = {
        path: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place(path, x.shape))
        for path, x in tree.abstract_parameters(model).items()
    }
    own = sum(map(shard_bytes, parameters.values()))
    model = tree.with_parameters(model, parameters)
    shapes = (1, TOKENS, 1024), (1, 6, 1024), (1, 512, 1024)
    inputs = [jax.ShapeDtypeStruct(shape, jnp.float32, sharding=layout.sharding()) for shape in shapes]
    return jax.jit(lambda model, *x: model(*x)).lower(model, *inputs).compile(), own


def test_a_block_is_copied_while_another_computes():
    program = parse(compiled(0)[0].as_text())
    loops = [
        [(i.opcode, i.shapes) for i in computation.instructions]
        for computation in program.computations.values()
        if any("tpu_custom_call" in i.rest for i in computation.instructions)  # attention
    ]
    assert loops
    for order in loops:
        names = [opcode for opcode, _ in order]
        waiting, hidden = 0, 0
        for name in names:
            waiting += (name == "dynamic-slice-start") - (name == "dynamic-slice-done")
            hidden += waiting > 0 and name in ("custom-call", "fusion")
        assert hidden > 10, names


def test_memory_is_that_of_a_few_blocks():
    (resident, all_of), (streamed, rest) = compiled(None), compiled(0)
    assert rest < 0.01 * all_of  # vectors
    saved = resident.memory_analysis().argument_size_in_bytes - streamed.memory_analysis().argument_size_in_bytes
    assert saved == pytest.approx(all_of, rel=0.02)
    more = streamed.memory_analysis().temp_size_in_bytes - resident.memory_analysis().temp_size_in_bytes
    assert more < 3.5 * all_of / BLOCKS


def test_products_of_int8_are_the_tpu_s_own():
    text = compiled(None, "int8")[0].as_text()
    assert len(re.findall(r" = s32\[[\d,]+\]\S* (?:dot|convolution)\(", text)) >= 8
    assert not re.findall(r" = s32\[[\d,]+\]\S* (?:dot|convolution)\([^)]*f32", text)
