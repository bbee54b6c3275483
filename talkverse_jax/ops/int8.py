"""Products of activations with int8 kernels that have a scale for each output: W = kernel * scale.

Shapes: I inputs, O outputs.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int8

_LARGEST = 127


def int8_matmul(x: Float[Array, "*L I"], kernel: Int8[Array, "I O"], scale: Float[Array, " O"]) -> Float[Array, "*L O"]:
    """The product in x's dtype, of int8 by int8 and summed in int32: each row of x is rounded to 127 steps on either
    side of 0, the largest of which is its largest magnitude."""
    rows = x.astype(jnp.float32)
    step = jnp.abs(rows).max(axis=-1, keepdims=True) / _LARGEST
    rounded = jnp.round(rows / jnp.where(step > 0, step, 1.0)).astype(jnp.int8)
    contracted = ((x.ndim - 1,), (0,)), ((), ())
    summed = jax.lax.dot_general(rounded, kernel, contracted, preferred_element_type=jnp.int32)
    return (summed.astype(jnp.float32) * step * scale).astype(x.dtype)
