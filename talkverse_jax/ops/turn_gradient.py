"""The gradient of norm and rotary positions (`turn`) in one pass, for TPUs.

A block of rows and of the result's gradient is read once. Turning is undone by turning back; the norm's gradient needs
two sums over a row, its squares and its share of the change, which are at hand while the row is. What the gain gets is
summed over a block's rows; XLA adds the blocks.

Shapes: B batch, L tokens, D width, J blocks of rows, K head width.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
from jaxtyping import Array, Float

from talkverse_jax.ops.attention.tiles import LANES, round_up

_ROWS = 128  # of a block


def pulled_back(
    x: Float[Array, "B L D"],
    gradient: Float[Array, "B L D"],
    gain: Float[Array, " D"],
    angles: tuple[Float[Array, "*B L K"], ...],
    *,
    eps: float,
    interpret: bool = False,
) -> tuple[Float[Array, "B L D"], Float[Array, "B J 1 D"]]:
    """The gradient of `x`, in its dtype, and that of the gain by blocks of rows, float32.

    Args:
      gradient: of the result.
      angles: by lane, what turned it (`turn`): of the lane itself, of its right and of its left neighbour.
      interpret: run the kernel step by step without a TPU, for tests.
    """
    batch, length, width = x.shape
    rows = min(_ROWS, round_up(length, 16))
    blocks = pl.cdiv(length, rows)
    of_rows = pl.BlockSpec((None, rows, width), lambda i, b: (b, i, 0))
    of_angles = pl.BlockSpec((rows, LANES), lambda i, b: (i, 0))
    if angles[0].ndim == 3:
        of_angles = pl.BlockSpec((None, rows, LANES), lambda i, b: (b, i, 0))
    return pl.pallas_call(
        functools.partial(_pull, eps=eps, length=length),
        grid=(blocks, batch),
        in_specs=[of_rows, of_rows, pl.BlockSpec((1, width), lambda i, b: (0, 0)), *(of_angles,) * 3],
        out_specs=[of_rows, pl.BlockSpec((None, None, 1, width), lambda i, b: (b, i, 0, 0))],
        out_shape=[
            jax.ShapeDtypeStruct(x.shape, x.dtype),
            jax.ShapeDtypeStruct((batch, blocks, 1, width), jnp.float32),
        ],
        compiler_params=pltpu.CompilerParams(dimension_semantics=("parallel", "arbitrary")),
        cost_estimate=pl.CostEstimate(flops=0, transcendentals=0, bytes_accessed=3 * x.size * x.dtype.itemsize),
        interpret=interpret,
        name="norm_and_turn_gradient",
    )(x, gradient, gain.astype(jnp.float32)[None], *angles)


def _pull(
    x_ref: Any,
    gradient_ref: Any,
    gain_ref: Any,
    cos_ref: Any,
    right_ref: Any,
    left_ref: Any,
    out_ref: Any,
    gain_out_ref: Any,
    *,
    eps: float,
    length: int,
) -> None:
    rows, width = x_ref.shape
    heads = [pl.ds(begin, LANES) for begin in range(0, width, LANES)]

    def turned_back(at: Any) -> Array:
        head = gradient_ref[:, at].astype(jnp.float32)
        right, left = pltpu.roll(head, LANES - 1, 1) * right_ref[...], pltpu.roll(head, 1, 1) * left_ref[...]
        return head * cos_ref[...] - right - left

    squares, share = jnp.zeros((rows, LANES), jnp.float32), jnp.zeros((rows, LANES), jnp.float32)
    for at in heads:
        x = x_ref[:, at].astype(jnp.float32)
        squares += x * x
        share += x * turned_back(at) * gain_ref[:, at]
    scale = lax.rsqrt(squares.sum(axis=1, keepdims=True) / width + eps)
    share = share.sum(axis=1, keepdims=True) * (scale * scale / width)
    real = lax.broadcasted_iota(jnp.int32, (rows, 1), 0) < length - pl.program_id(0) * rows
    for at in heads:
        x, gradient = x_ref[:, at].astype(jnp.float32), turned_back(at)
        of_gain = x * scale * gradient
        if length % rows:  # what lies behind the last row may be anything
            of_gain = jnp.where(real, of_gain, 0.0)
        gain_out_ref[:, at] = of_gain.sum(axis=0, keepdims=True)
        out_ref[:, at] = ((gradient * gain_ref[:, at] - x * share) * scale).astype(out_ref.dtype)
