"""Splash attention compiled for TPUs that need not be there, at the published size (24 heads of 128)."""

import importlib.util
import math
import os
import re

import jax
import jax.numpy as jnp
import pytest

from talkverse_jax.ops.attention import Attention, Segments
from talkverse_jax.sharding.layout import Layout
from talkverse_jax.sharding.mesh import make_mesh
from talkverse_jax.sharding.mesh_config import MeshConfig

pytestmark = pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="libtpu is not installed")
slow = pytest.mark.slow

HEADS, WIDTH = 24, 128


def _layout(topology, mesh):
    from jax.experimental import topologies

    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")  # only compiles; another process may too
    devices = topologies.get_topology_desc(topology, platform="tpu").devices
    return Layout(make_mesh(MeshConfig.parse(mesh), devices, HEADS))


def _array(layout, length, tokens="tokens", dtype=jnp.bfloat16, width=WIDTH):
    sharding = layout.sharding("batch", tokens, "heads", None)
    return jax.ShapeDtypeStruct((1, length, HEADS, width), dtype, sharding=sharding)


def _kernel_shapes(hlo):
    """Of each splash kernel in the program: the shapes of q, k and v."""
    calls = re.findall(r"splash_mha_fwd.*tpu_custom_call.*operand_layout_constraints={(.*?)}, f", hlo)
    return [
        [tuple(map(int, shape.split(","))) for shape in re.findall(r"(?:bf16|f32)\[(\d+,\d+,\d+)\]", call)]
        for call in calls
    ]


@pytest.mark.parametrize(
    "topology, mesh, tokens",
    [
        ("v6e:2x4", "context=8", 13_000),
        ("v6e:2x4", "context=8,ulysses=1", 13_000),
        pytest.param("v5e:2x4", "context=8,ulysses=4", 13_000, marks=slow),
        pytest.param("v5e:2x4", "context=8", 28_580, marks=slow),
        pytest.param("v5p:2x2x1", "context=4", 13_000, marks=slow),
        pytest.param("tpu7x:2x2x1", "context=8", 13_000, marks=slow),
    ],
)
def test_self_attention_compiles_and_wastes_little(topology, mesh, tokens):
    layout = _layout(topology, mesh)
    ring, ulysses = layout.mesh.shape["ring"], layout.mesh.shape["ulysses"]
    length = math.ceil(tokens / (ring * ulysses)) * ring * ulysses
    x = _array(layout, length)
    attend = Attention(layout, "splash").self_attention
    hlo = jax.jit(attend, static_argnums=3).lower(x, x, x, tokens).compile().as_text()
    assert "all-gather" not in hlo
    assert len(re.findall(r" all-to-all\(| all-to-all-start\(", hlo)) == (4 if ulysses > 1 else 0)
    kernels = _kernel_shapes(hlo)
    # the last step of a ring lies outside its loop
    assert len(kernels) == (1 if ring == 1 else 2)
    for (heads, queries, _), (_, keys, _), _ in kernels:
        assert heads == HEADS // ulysses
        assert queries * keys <= 1.03 * (length / ring) ** 2


@slow
@pytest.mark.parametrize("name, kernel", [("flash", "flash_attention"), ("splash", "splash_mha")])
def test_the_keys_of_a_ring_travel_while_it_computes(name, kernel):
    layout = _layout("v6e:2x4", "context=8,ulysses=1")
    x = _array(layout, 13_000)
    lowered = jax.jit(Attention(layout, name).self_attention, static_argnums=3).lower(x, x, x, 13_000)
    order = re.findall(
        rf" (collective-permute-start|collective-permute-done)\(|({kernel})\w*[.\d]* = .* custom-call\(",
        lowered.compile().as_text(),
    )
    order = [permute or found for permute, found in order]
    loop = ["collective-permute-start"] * 2 + [kernel] + ["collective-permute-done"] * 2
    assert loop in (order[:5], order[1:6])


@slow
@pytest.mark.parametrize("topology", ["v5e:2x4", "v6e:2x4"])
@pytest.mark.parametrize("name, kernel", [("flash", "attention_to_few"), ("splash", "splash_mha_fwd")])
def test_cross_attention_with_segments_compiles(topology, name, kernel):
    layout = _layout(topology, "context=8")
    ids = lambda n, name: jax.ShapeDtypeStruct((n,), jnp.int32, sharding=layout.sharding(name))  # noqa: E731
    segments = Segments(ids(13_000, "tokens"), ids(150, None))
    keys = _array(layout, 150, None)
    lowered = jax.jit(Attention(layout, name).cross_attention).lower(_array(layout, 13_000), keys, keys, segments)
    assert len(re.findall(rf"{kernel}\S* = .* custom-call\(", lowered.compile().as_text())) == 1


@slow
@pytest.mark.parametrize("dtype, width", [(jnp.float32, 128), (jnp.bfloat16, 64)])
def test_other_numbers_compile(dtype, width):
    layout = _layout("v5e:2x4", "context=8")
    x = _array(layout, 13_000, dtype=dtype, width=width)
    lowered = jax.jit(Attention(layout).self_attention, static_argnums=3).lower(x, x, x, 13_000)
    assert len(_kernel_shapes(lowered.compile().as_text())) == 1


@slow
@pytest.mark.parametrize("topology, mesh", [("v5e:2x4", "context=8"), ("v5p:2x2x1", "context=4")])
def test_gradients_compile(topology, mesh):
    """Where VMEM is scarcest: the backward kernels keep more than the forward one."""
    layout = _layout(topology, mesh)
    x = _array(layout, 13_000)

    def loss(q, k, v):
        return Attention(layout, "splash").self_attention(q, k, v, 13_000).astype(jnp.float32).sum()

    with jax.default_matmul_precision("default"):
        hlo = jax.jit(jax.grad(loss, argnums=(0, 1, 2))).lower(x, x, x).compile().as_text()
    assert "splash_mha_dq" in hlo and "splash_mha_dkv" in hlo
