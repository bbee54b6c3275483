"""Products of linear layers in bfloat16 on a CPU, against XLA's own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from talkverse_jax.ops.product import product_on

LINEAR = ((2,), (0,)), ((), ())


def _inputs(dtype):
    keys = jax.random.split(jax.random.key(0), 2)
    return (jax.random.normal(key, shape).astype(dtype) for key, shape in zip(keys, ((2, 5, 24), (24, 16))))


def test_it_is_xlas_product_rounded_once():
    x, kernel = _inputs(jnp.bfloat16)
    exact = np.asarray(x, np.float64) @ np.asarray(kernel, np.float64)
    out = product_on("cpu")(x, kernel, LINEAR)
    assert out.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.asarray(out, np.float64), exact, rtol=2**-8, atol=1e-5)


def test_gradients_are_those_of_xla():
    given = tuple(_inputs(jnp.bfloat16))

    def loss(product):
        return lambda x, kernel: jnp.sum(jnp.sin(product(x, kernel, LINEAR).astype(jnp.float32)))

    ours, plain = (jax.grad(loss(p), (0, 1))(*given) for p in (product_on("cpu"), jax.lax.dot_general))
    for a, b in zip(ours, plain):
        assert a.dtype == b.dtype == jnp.bfloat16
        np.testing.assert_allclose(np.asarray(a, np.float32), np.asarray(b, np.float32), rtol=0.02, atol=0.02)


def test_other_numbers_and_platforms_are_left_as_they_are():
    x, kernel = _inputs(jnp.float32)
    plain = str(jax.make_jaxpr(lambda x, y: jax.lax.dot_general(x, y, LINEAR))(x, kernel))
    assert str(jax.make_jaxpr(lambda x, y: product_on("cpu")(x, y, LINEAR))(x, kernel)) == plain
    assert product_on("tpu") is product_on("gpu") is jax.lax.dot_general


def test_other_contractions_are_refused():
    x, kernel = _inputs(jnp.bfloat16)
    with pytest.raises(ValueError, match="a linear layer takes"):
        product_on("cpu")(x, kernel.T, (((2,), (1,)), ((), ())))


def test_a_layer_takes_it():
    layer = nnx.Linear(24, 16, dot_general=product_on("cpu"), dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
    x, _ = _inputs(jnp.bfloat16)
    text = str(jax.make_jaxpr(lambda x: layer(x))(x))
    assert "preferred_element_type=float32" in text
