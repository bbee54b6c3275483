"""Products with a kernel and a low-rank pair, against W + s A B written down."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from talkverse_jax.ops import low_rank

SCALE = 0.5


def _inputs(size: float = 1.0):
    keys = jax.random.split(jax.random.key(0), 4)
    shapes = (2, 7, 48), (48, 40), (48, 4), (4, 40)
    x, kernel, a, b = (jax.random.normal(key, shape) for key, shape in zip(keys, shapes))
    return x, kernel, a, size * b


def _ours(x, kernel, a, b):
    return low_rank.product(x, low_rank.joined(kernel, a, b, SCALE), a, b, SCALE)


def _plain(x, kernel, a, b):
    return x @ (kernel + SCALE * a @ b)


def _gradients(function, *args):
    def loss(*args):
        return jnp.sin(function(*args).astype(jnp.float32)).sum()

    return jax.jit(jax.grad(loss, argnums=(0, 1, 2, 3)))(*args)


def test_values_and_gradients_are_those_of_the_formula():
    """The kernel's own too, where it is trained."""
    args = _inputs()
    np.testing.assert_allclose(_ours(*args), _plain(*args), rtol=1e-6, atol=1e-5)
    for got, want in zip(_gradients(_ours, *args), _gradients(_plain, *args)):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5 * np.abs(want).max())


def test_in_16_bits_it_is_as_near_as_products_of_its_own():
    """With a change of a tenth of the kernel."""

    def beside(x, kernel, a, b):
        return x @ kernel + jnp.bfloat16(SCALE) * (x @ a @ b)

    def all_of(function, args):
        out, pull = jax.vjp(function, *args)
        return out, *pull(jnp.cos(jnp.arange(out.size)).reshape(out.shape).astype(out.dtype))

    args = tuple(x.astype(jnp.bfloat16) for x in _inputs(0.1))
    exact = all_of(_plain, [x.astype(jnp.float32) for x in args])
    for got, other, want in zip(all_of(_ours, args), all_of(beside, args), exact):
        assert got.dtype == jnp.bfloat16
        off, least = (np.linalg.norm(x.astype(jnp.float32) - want) for x in (got, other))
        assert off < 1.1 * least


@pytest.mark.parametrize("step", [0.01, 0.3])  # of the way to the next number
def test_changes_that_are_smaller_than_a_weights_next_number_are_not_lost(step):
    """A step of a bfloat16 at 1 is 2**-7; what is added to many weights arrives on average."""
    kernel = jnp.ones((256, 64), jnp.bfloat16)
    a, b = jnp.ones((256, 1), jnp.bfloat16), jnp.full((1, 64), step * 2**-7, jnp.bfloat16)
    found = low_rank.joined(kernel, a, b, 1.0).astype(jnp.float32)
    assert set(np.unique(found)) == {1.0, 1 + 2**-7}
    assert abs((found - 1).mean() / float(b[0, 0]) - 1) < 0.1
    np.testing.assert_array_equal(low_rank.joined(kernel, a, 0 * b, 1.0), kernel)
