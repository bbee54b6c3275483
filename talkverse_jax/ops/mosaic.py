"""What our kernels for TPUs share."""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array


def product(a: Array, b: Array, contracted: tuple[int, int]) -> Array:
    """Of 16 bits, which have one precision; Mosaic does not compile with another."""
    of_a, of_b = contracted
    return lax.dot_general(
        a, b, (((of_a,), (of_b,)), ((), ())), precision=lax.Precision.DEFAULT, preferred_element_type=jnp.float32
    )
