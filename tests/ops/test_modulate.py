"""Norm and modulation in one pass: interpreted against the two of them in plain XLA."""

import importlib.util

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from talkverse_jax.ops.modulate import can_modulate, normed_and_modulated, picked
from talkverse_jax.ops.norm import layer_norm
from talkverse_jax.sharding.layout import Layout
from talkverse_jax.sharding.mesh import make_mesh
from talkverse_jax.sharding.mesh_config import MeshConfig
from tests.ops.test_splash_tpu import _layout

needs_libtpu = pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="libtpu is not installed")
WIDTH, EPS = 640, 1e-6


def _inputs(batch: int, length: int, segments: int):
    """Activations, shifts, scales, and the segment of each token."""
    keys = jax.random.split(jax.random.key(0), 4)
    x = 2 + 3 * jax.random.normal(keys[0], (batch, length, WIDTH))
    shift, scale = (jax.random.normal(key, (batch, segments, WIDTH)) for key in keys[1:3])
    return x, shift, scale, jax.random.randint(keys[3], (length,), 0, segments)


def _plain(x, shift, scale, segment):
    norm = layer_norm(WIDTH, EPS, rngs=None)  # pyright: ignore[reportArgumentType]  # it has no parameters
    return x, norm(x) * (1 + picked(scale, segment)) + picked(shift, segment)


def _run(layout=Layout(), dtype=jnp.float32):
    return lambda *args: normed_and_modulated(layout, *args, eps=EPS, dtype=dtype, interpret=True)


@pytest.mark.parametrize("length, segments", [(40, 1), (130, 2), (130, 30)])
def test_it_is_norm_and_modulation(length, segments):
    args = _inputs(2, length, segments)
    np.testing.assert_allclose(_run()(*args)[1], _plain(*args)[1], atol=5e-6)


def test_it_rounds_once():
    x, *rest = _inputs(1, 40, 2)
    x = x.astype(jnp.bfloat16)
    (_, out), (_, wanted) = _run(dtype=jnp.bfloat16)(x, *rest), _plain(x.astype(jnp.float32), *rest)
    wanted = wanted.astype(jnp.bfloat16)
    differs = np.asarray(out != wanted)
    assert differs.mean() < 1e-3  # where the float32 results lie on both sides of a half
    np.testing.assert_allclose(out.astype(jnp.float32), wanted.astype(jnp.float32), rtol=2**-7)


def _gradients(function, args, segment):
    def loss(*args):
        past, entering = function(*args, segment)
        return (past * jnp.sin(entering)).sum()

    return jax.jit(jax.grad(loss, argnums=(0, 1, 2)))(*args)


def test_its_gradients():
    *args, segment = _inputs(2, 136, 3)
    segment = jnp.sort(segment)  # but for the last block, which has all
    segment = segment.at[128:].set(jnp.arange(8) % 3)
    for got, want in zip(_gradients(_run(), args, segment), _gradients(_plain, args, segment)):
        np.testing.assert_allclose(got, want, atol=2e-4, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_gradients_of_a_rounded_stream(dtype):
    x, shift, scale, segment = _inputs(1, 300, 2)
    args, plain = (x.astype(jnp.bfloat16), shift, scale), lambda x, *args: _plain(x.astype(jnp.float32), *args)
    for got, want in zip(_gradients(_run(dtype=dtype), args, segment), _gradients(plain, args, segment)):
        assert got.dtype == want.dtype
        got, want = (np.asarray(each, np.float32) for each in (got, want))
        assert np.linalg.norm(got - want) < (3e-3 if dtype == jnp.float32 else 2e-2) * np.linalg.norm(want)


@pytest.mark.slow
def test_devices_share_the_rows_of_its_gradients():
    x, *vectors, segment = _inputs(2, 64, 3)
    layout = Layout(make_mesh(MeshConfig.parse("data=2,context=2,tensor=2"), jax.devices(), 2))
    split = layout.put(x, "batch", "stream", None), *vectors
    shared = _gradients(_run(layout), split, layout.put(segment, "stream"))
    for got, want in zip(shared, _gradients(_run(), (x, *vectors), segment)):
        np.testing.assert_allclose(got, want, atol=1e-4, rtol=1e-5)  # sums of a segment's rows in another order


def test_devices_share_its_rows():
    x, shift, scale, segment = _inputs(2, 64, 3)
    layout = Layout(make_mesh(MeshConfig.parse("data=2,context=2,tensor=2"), jax.devices(), 2))
    args = layout.put(x, "batch", "stream", None), shift, scale, layout.put(segment, "stream")
    np.testing.assert_array_equal(jax.jit(_run(layout))(*args)[1], jax.jit(_run())(x, shift, scale, segment)[1])


@needs_libtpu
@pytest.mark.slow
@pytest.mark.parametrize("topology", ["v5e:2x4", "v6e:2x4", "tpu7x:2x2x1"])
def test_it_compiles(topology):
    layout = _layout(topology, "context=8")
    assert can_modulate(layout, 3072) and not can_modulate(layout, 96) and not can_modulate(Layout(), 3072)
    x = jax.ShapeDtypeStruct((1, 13_000, 3072), jnp.float32, sharding=layout.sharding("batch", "stream", None))
    vectors = jax.ShapeDtypeStruct((1, 30, 3072), jnp.float32, sharding=layout.sharding(None))
    segment = jax.ShapeDtypeStruct((13_000,), jnp.int32, sharding=layout.sharding("stream"))

    def modulate(*args):
        return normed_and_modulated(layout, *args, eps=EPS, dtype=jnp.bfloat16)

    gradient = jax.grad(lambda x, *args: (x + modulate(x, *args)[1]).astype(jnp.float32).sum())
    for function, name in ((modulate, "norm_and_modulate"), (gradient, "norm_and_modulate_gradient")):
        hlo = jax.jit(function).lower(x, vectors, vectors, segment).compile().as_text()
        assert name in hlo and "all-gather" not in hlo
