"""A linear layer with an adapter; one of int8, alone and stacked."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from talkverse_jax.core.stack import Stack
from talkverse_jax.models.wan.linear import Linear, joined
from talkverse_jax.weights import int8


def kernel(seed: int = 0) -> tuple[jax.Array, jax.Array]:
    made = int8.rounded(np.random.default_rng(seed).standard_normal((48, 32), np.float32))
    numbers, scale = (jnp.asarray(part.rows(slice(None))) for part in made)
    return numbers, scale


def layer(products, dtype=jnp.float32) -> Linear:
    made: Any = nnx.eval_shape(lambda: Linear(48, 32, dtype=dtype, rngs=nnx.Rngs(0)))
    made.quantise(products)
    made.kernel.set_value(kernel()[0])
    made.scale.set_value(kernel()[1])
    made.bias.set_value(jnp.linspace(-1, 1, 32))
    return made


@pytest.mark.parametrize("products, off", [("float", 1e-6), ("int8", 0.01)])
def test_it_computes_what_its_numbers_by_their_scales_do(products, off):
    x = jax.random.normal(jax.random.key(0), (2, 5, 48))
    numbers, scale = kernel()
    exact = x @ (numbers * scale) + jnp.linspace(-1, 1, 32)
    found = layer(products)(x)
    assert jnp.linalg.norm(found - exact) / jnp.linalg.norm(exact) < off
    assert layer(products, jnp.bfloat16)(x).dtype == jnp.bfloat16


def test_an_adapter_adds_its_part():
    x, made = jax.random.normal(jax.random.key(0), (5, 48)), Linear(48, 32, rngs=nnx.Rngs(0))
    plain = made(x)
    made.attach(2, 4.0, jnp.float32)
    assert made.adapter is not None
    a, b = jnp.ones((48, 2)), jax.random.normal(jax.random.key(1), (2, 32))
    made.adapter.a.set_value(a)
    made.adapter.b.set_value(b)
    np.testing.assert_allclose(made(x), plain + 2.0 * x @ a @ b, rtol=1e-5, atol=1e-5)
    once = joined(made)
    np.testing.assert_array_equal(once(x), made(x))
    np.testing.assert_array_equal(joined(once).kernel.get_value(), once.kernel.get_value())
    assert not made.joined and joined(layer("int8")).adapter is None


def test_stacked_layers_have_their_own_scales():
    stack = nnx.eval_shape(lambda: Stack(("a", "b"), lambda rngs: Linear(48, 32, rngs=rngs), nnx.Rngs(0)))
    layers: Any = stack.layers
    layers.quantise("float")
    shapes = {str(path[-1]): leaf.get_value() for path, leaf in nnx.to_flat_state(nnx.state(stack.layers, nnx.Param))}
    assert (shapes["kernel"].shape, shapes["kernel"].dtype) == ((2, 48, 32), jnp.int8)
    assert (shapes["scale"].shape, shapes["scale"].dtype) == ((2, 32), jnp.float32)
