"""A product with a kernel that a low-rank pair changes (LoRA, Hu et al. 2021, arXiv:2106.09685): W + s A B.

The pair is added to the kernel before the product, which then costs what it costs without one. Gradients of the pair
are thin products of what goes in and of the result's gradient: that of the kernel itself, which costs as much as the
product, is never made unless the kernel is trained too.

Shapes: I inputs, O outputs, r rank.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

_HALF = 16  # the bits of a float32 that a bfloat16 has not


def joined(
    kernel: Float[Array, "I O"], a: Float[Array, "I r"], b: Float[Array, "r O"], scale: float
) -> Float[Array, "I O"]:
    """`kernel + scale A B`, in the kernel's dtype; the pair gets no gradient by it.

    A change that is lost in the nearest bfloat16 (the first hundred updates of a new pair are) moves its weight to the
    next one as often as it is near that, by a pattern of the place alone: what many weights add up to is right.
    """
    change = scale * jnp.matmul(*map(lax.stop_gradient, (a, b)), preferred_element_type=jnp.float32)
    return _plus(kernel, change) if kernel.dtype == jnp.bfloat16 else kernel + change.astype(kernel.dtype)


@jax.custom_jvp
def _plus(kernel: Float[Array, "I O"], change: Float[Array, "I O"]) -> Float[Array, "I O"]:
    exact = kernel.astype(jnp.float32) + change
    nearest = exact.astype(kernel.dtype)
    bits = lax.bitcast_convert_type(exact, jnp.uint32) + _pattern(kernel.shape)
    either = lax.bitcast_convert_type(bits >> _HALF << _HALF, jnp.float32).astype(kernel.dtype)
    return jnp.where(nearest == kernel, either, nearest)


@_plus.defjvp
def _plus_jvp(primals, tangents):
    return _plus(*primals), tangents[0]


def _pattern(shape: tuple[int, ...]) -> Array:
    """Numbers of 16 bits, all alike often, from the place alone."""
    row, column = (lax.broadcasted_iota(jnp.uint32, shape, axis) for axis in (0, 1))
    mixed = row * jnp.uint32(0x9E3779B1) + column * jnp.uint32(0x85EBCA77)
    mixed = (mixed ^ (mixed >> 15)) * jnp.uint32(0x2C1B3C6D)
    return mixed >> _HALF


def product(
    x: Float[Array, "*L I"],
    kernel: Float[Array, "I O"],
    a: Float[Array, "I r"],
    b: Float[Array, "r O"],
    scale: float,
) -> Float[Array, "*L O"]:
    """`x @ kernel`, where the kernel is `joined`: with the gradient of the pair in it."""
    out: Any = _product(x, kernel, a, b, scale)
    return out


@functools.partial(jax.custom_vjp, nondiff_argnums=(4,))
def _product(x, kernel, a, b, scale: float):
    del a, b, scale
    return x @ kernel


def _forward(x, kernel, a, b, scale: float):
    return _product(x, kernel, a, b, scale), (x, kernel, a, b)


def _backward(scale: float, known, gradient):
    x, kernel, a, b = known
    thin = gradient @ b.T
    rows = tuple(range(x.ndim - 1))
    across = functools.partial(jnp.tensordot, axes=(rows, rows))
    return gradient @ kernel.T, across(x, gradient), scale * across(x, thin), scale * across(x @ a, gradient)


_product.defvjp(_forward, _backward)
