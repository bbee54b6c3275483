"""Norm and rotary positions in one pass: interpreted against the two of them in plain XLA."""

import importlib.util

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from einops import rearrange
from flax import nnx

from talkverse_jax.ops.rope import RopeTables, apply_rope, rope_tables
from talkverse_jax.ops.turn import can_turn, normed_and_turned
from talkverse_jax.sharding.layout import Layout
from talkverse_jax.sharding.mesh import make_mesh
from talkverse_jax.sharding.mesh_config import MeshConfig
from tests.ops.test_splash_tpu import _layout

needs_libtpu = pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="libtpu is not installed")
HEADS, WIDTH, EPS = 3, 128, 1e-6


def _inputs(batch: int, length: int, own: bool = False):
    """Activations, gains and tables: those of all samples, or each its own."""
    keys = jax.random.split(jax.random.key(0), 2)
    x = 3 * jax.random.normal(keys[0], (batch, length, HEADS * WIDTH))
    positions = np.random.default_rng(0).integers(-5, 60, (length, 3))
    tables = rope_tables(positions, WIDTH)
    if own:
        tables = RopeTables(*(jnp.stack([table, table[::-1]][:batch]) for table in tables))
    return x, 1 + 0.1 * jax.random.normal(keys[1], (HEADS * WIDTH,)), tables


def _plain(x, gain, tables):
    norm = nnx.RMSNorm(x.shape[-1], epsilon=EPS, rngs=nnx.Rngs(0))
    norm.scale.set_value(gain)  # pyright: ignore[reportOptionalMemberAccess]
    heads = rearrange(norm(x), "b l (n k) -> b l n k", k=WIDTH)
    return rearrange(apply_rope(heads, tables), "b l n k -> b l (n k)")


def _run(layout=Layout(), dtype=jnp.float32):
    return lambda *args: normed_and_turned(layout, *args, eps=EPS, dtype=dtype, interpret=True)


@pytest.mark.parametrize("own", [False, True], ids=["shared", "own"])
@pytest.mark.parametrize("length", [40, 256, 300])
def test_it_is_norm_and_rope(length, own):
    args = _inputs(2, length, own)
    np.testing.assert_allclose(_run()(*args), _plain(*args), atol=3e-6)


def test_it_rounds_once():
    x, gain, tables = _inputs(1, 40)
    x = x.astype(jnp.bfloat16)
    out = _run(dtype=jnp.bfloat16)(x, gain, tables)
    np.testing.assert_array_equal(out, _plain(x.astype(jnp.float32), gain, tables).astype(jnp.bfloat16))


def test_its_gradients():
    *args, tables = _inputs(2, 136, own=True)

    def gradients(function):
        return jax.jit(jax.grad(lambda *x: jnp.sin(function(*x, tables)).sum(), argnums=(0, 1)))(*args)

    for got, want in zip(gradients(_run()), gradients(_plain)):
        np.testing.assert_allclose(got, want, atol=2e-4, rtol=1e-5)


def test_devices_share_the_rows_of_its_gradients():
    x, gain, tables = _inputs(2, 32)
    layout = Layout(make_mesh(MeshConfig.parse("data=2,context=4"), jax.devices(), HEADS))

    def gradients(layout, x):
        return jax.jit(jax.grad(lambda *x: jnp.sin(_run(layout)(*x, tables)).sum(), argnums=(0, 1)))(x, gain)

    split = layout.put(x, "batch", "tokens", None)
    for got, want in zip(gradients(layout, split), gradients(Layout(), x)):
        np.testing.assert_allclose(got, want, atol=1e-5)


@pytest.mark.parametrize("own", [False, True], ids=["shared", "own"])
def test_devices_share_its_rows(own):
    x, gain, tables = _inputs(2, 64, own)
    layout = Layout(make_mesh(MeshConfig.parse("data=2,context=4"), jax.devices(), HEADS))
    split = layout.put(x, "batch", "tokens", None)
    np.testing.assert_array_equal(jax.jit(_run(layout))(split, gain, tables), jax.jit(_run())(x, gain, tables))


@needs_libtpu
@pytest.mark.slow
@pytest.mark.parametrize("topology", ["v5e:2x4", "v6e:2x4", "tpu7x:2x2x1"])
def test_it_compiles(topology):
    layout = _layout(topology, "context=8")
    assert can_turn(layout, 128) and not can_turn(layout, 64) and not can_turn(Layout(), 128)
    x = jax.ShapeDtypeStruct((1, 13_000, 3072), jnp.bfloat16, sharding=layout.sharding("batch", "tokens", None))
    whole = layout.sharding(None)
    gain = jax.ShapeDtypeStruct((3072,), jnp.float32, sharding=whole)
    tables = RopeTables(*(jax.ShapeDtypeStruct((13_000, 64), jnp.float32, sharding=whole) for _ in range(2)))

    def turn(x, gain, tables):
        return normed_and_turned(layout, x, gain, tables, eps=EPS, dtype=jnp.bfloat16)

    gradient = jax.grad(lambda *x: turn(*x).astype(jnp.float32).sum())
    for function, name in ((turn, "norm_and_turn"), (gradient, "norm_and_turn_gradient")):
        hlo = jax.jit(function).lower(x, gain, tables).compile().as_text()
        assert name in hlo and "all-gather" not in hlo
