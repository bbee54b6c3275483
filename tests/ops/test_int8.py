"""Products of int8 against those of the same numbers in floats."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from talkverse_jax.ops.int8 import int8_matmul
from talkverse_jax.weights.int8 import multiplied


def case(tokens=(3, 40), inputs=64, outputs=48):
    rng = np.random.default_rng(0)
    kernel = rng.integers(-127, 128, (inputs, outputs), dtype=np.int8)
    x = rng.standard_normal((*tokens, inputs), np.float32) * rng.uniform(0.01, 100, (*tokens, 1)).astype(np.float32)
    return jnp.asarray(x), jnp.asarray(kernel), jnp.asarray(rng.uniform(0.001, 0.01, outputs).astype(np.float32))


def test_a_row_is_off_by_half_a_step_a_value_at_most():
    x, kernel, scale = case()
    x = x.at[0, 0].set(0.0)
    weights = multiplied(kernel, scale, jnp.float32)
    found, exact = int8_matmul(x, kernel, scale), x @ weights
    half_step = np.abs(x).max(axis=-1, keepdims=True) / 254
    assert (np.abs(found - exact) <= 1.001 * half_step * np.abs(weights).sum(axis=0) + 1e-6).all()
    assert 1e-4 < jnp.linalg.norm(found - exact) / jnp.linalg.norm(exact) < 0.01
    np.testing.assert_array_equal(found[0, 0], 0.0)


def test_values_on_the_steps_are_exact():
    rng = np.random.default_rng(1)
    x = rng.integers(-127, 128, (5, 64)).astype(np.float32)
    x[:, 0] = 127
    _, kernel, scale = case()
    exact = x @ multiplied(kernel, scale, jnp.float32)
    np.testing.assert_allclose(int8_matmul(jnp.asarray(x), kernel, scale), exact, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("split", [(None, "t"), ("t", None)])  # of the kernel's outputs, and of its inputs
def test_parts_on_eight_devices_have_one_scale_a_row(split):
    """A row in parts is rounded by the largest of all its values, so the sums are the same integers."""
    x, kernel, scale = case()
    mesh = Mesh(np.array(jax.devices()[:8]), "t")
    put = lambda array, *spec: jax.device_put(array, NamedSharding(mesh, PartitionSpec(*spec)))  # noqa: E731
    found = jax.jit(int8_matmul)(put(x, None, None, split[0]), put(kernel, *split), put(scale, split[1]))
    np.testing.assert_array_equal(found, jax.jit(int8_matmul)(x, kernel, scale))


def test_the_result_is_of_the_input_s_type():
    x, kernel, scale = case()
    found = int8_matmul(x.astype(jnp.bfloat16), kernel, scale)
    assert found.dtype == jnp.bfloat16
    exact = x @ multiplied(kernel, scale, jnp.float32)
    assert jnp.linalg.norm(found - exact) / jnp.linalg.norm(exact) < 0.012
