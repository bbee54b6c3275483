"""The gradient of norm and modulation (`modulate`) in one pass, for TPUs.

A block of rows and of the gradients of what came of it is read once. The norm's gradient needs three sums over a row:
its squares, the change and the row's share of it, which are at hand while the row is. What the vectors get is summed
over the rows of each segment and stays in vector memory from block to block; of the segments only those that a block's
rows have are gone through, mostly one.

Shapes: B batch, L tokens, D width, S segments of tokens, N numbers that are picked from (a multiple of S).
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
from jaxtyping import Array, Float, Int

from talkverse_jax.ops.attention.tiles import LANES, ROWS, round_up
from talkverse_jax.ops.mosaic import product

_ROWS = 128  # of a block
_COLUMNS = 256  # that are at work at once
_SUMS = 8  # rows of a tile of float32


def pulled_back(
    x: Float[Array, "B L D"],
    gradient: Float[Array, "B L D"],
    past: Float[Array, "B L D"],
    wanted: Float[Array, "L N"],
    factors: Float[Array, "B N D"],
    segment: Int[Array, " L"],
    segments: int,
    *,
    eps: float,
    interpret: bool = False,
) -> tuple[Float[Array, "B L D"], Float[Array, "B S D"], Float[Array, "B S D"]]:
    """The gradient of `x`, in its dtype, and those of shift and scale, float32.

    Args:
      gradient: of the result.
      past: of `x`, by what else takes it.
      wanted, factors: what a row times which gives its 1 + scale (`modulate`); the first S columns are the segments.
      segment: whose vectors a token takes, of `segments`.
      interpret: run the kernel step by step without a TPU, for tests.
    """
    batch, length, width = x.shape
    rows = min(_ROWS, round_up(length, ROWS))
    blocks, behind = pl.cdiv(length, rows), -length % rows
    of_blocks = jnp.pad(segment, (0, behind), mode="edge").reshape(blocks, rows)
    bounds = jnp.stack([of_blocks.min(axis=1), of_blocks.max(axis=1)])
    sums = jax.ShapeDtypeStruct((batch, round_up(segments, _SUMS), width), jnp.float32)
    of_rows = pl.BlockSpec((None, rows, width), lambda b, i, _: (b, i, 0))
    of_sums = pl.BlockSpec((None, *sums.shape[1:]), lambda b, i, _: (b, 0, 0))
    change, *of_vectors = pl.pallas_call(
        functools.partial(_pull, eps=eps),
        grid_spec=pltpu.PrefetchScalarGridSpec(
            num_scalar_prefetch=1,
            grid=(batch, blocks),
            in_specs=[
                of_rows,
                of_rows,
                of_rows,
                pl.BlockSpec((rows, wanted.shape[1]), lambda b, i, _: (i, 0)),
                pl.BlockSpec((None, *factors.shape[1:]), lambda b, i, _: (b, 0, 0)),
            ],
            out_specs=[of_rows, of_sums, of_sums],
            scratch_shapes=[pltpu.VMEM((rows, width), jnp.float32)],
        ),
        out_shape=[jax.ShapeDtypeStruct(x.shape, x.dtype), sums, sums],
        compiler_params=pltpu.CompilerParams(dimension_semantics=("parallel", "arbitrary")),
        cost_estimate=pl.CostEstimate(
            flops=0, transcendentals=0, bytes_accessed=x.size * (3 * x.dtype.itemsize + gradient.dtype.itemsize)
        ),
        interpret=interpret,
        name="norm_and_modulate_gradient",
    )(
        bounds, x, gradient, past, jnp.pad(wanted, ((0, behind), (0, 0))), factors
    )  # rows behind the last are in no segment
    shift, scale = (each[:, :segments] for each in of_vectors)
    return change, shift, scale


def _pull(
    bounds_ref: Any,
    x_ref: Any,
    gradient_ref: Any,
    past_ref: Any,
    wanted_ref: Any,
    factor_ref: Any,
    out_ref: Any,
    shift_ref: Any,
    scale_ref: Any,
    change_ref: Any,
    *,
    eps: float,
) -> None:
    rows, width = x_ref.shape
    parts = [pl.ds(begin, min(_COLUMNS, width - begin)) for begin in range(0, width, _COLUMNS)]
    wanted = wanted_ref[...]
    none = jnp.zeros((rows, LANES), jnp.float32)

    def centred(at: Any) -> Array:
        return x_ref[:, at].astype(jnp.float32) - mean

    total = none
    for at in parts:
        total += _by_lane(x_ref[:, at].astype(jnp.float32))
    mean = total.sum(axis=1, keepdims=True) / width

    squares, level, share = none, none, none
    for at in parts:
        x = centred(at)
        change = gradient_ref[:, at].astype(jnp.float32) * product(wanted, factor_ref[:, at], (1, 0))
        change_ref[:, at] = change
        squares, level, share = squares + _by_lane(x * x), level + _by_lane(change), share + _by_lane(x * change)
    inverse = lax.rsqrt(squares.sum(axis=1, keepdims=True) / width + eps)
    level = level.sum(axis=1, keepdims=True) / width
    share = share.sum(axis=1, keepdims=True) * (inverse * inverse / width)
    for at in parts:
        change = (change_ref[:, at] - level - centred(at) * share) * inverse
        out_ref[:, at] = (past_ref[:, at].astype(jnp.float32) + change).astype(out_ref.dtype)

    @pl.when(pl.program_id(1) == 0)
    def _():
        shift_ref[...], scale_ref[...] = jnp.zeros_like(shift_ref), jnp.zeros_like(scale_ref)

    def add(segment: Array, _: None) -> None:
        columns = lax.broadcasted_iota(jnp.int32, wanted.shape, 1)
        own = jnp.where(columns == segment, wanted.astype(jnp.float32), 0.0).sum(axis=1, keepdims=True) > 0
        for at in parts:
            gradient = jnp.where(own, gradient_ref[:, at].astype(jnp.float32), 0.0)
            normed = jnp.where(own, centred(at) * inverse, 0.0)  # what lies behind the last row may be anything
            shift_ref[pl.ds(segment, 1), at] += gradient.sum(axis=0, keepdims=True)
            scale_ref[pl.ds(segment, 1), at] += (gradient * normed).sum(axis=0, keepdims=True)

    place = pl.program_id(1)
    lax.fori_loop(bounds_ref[0, place], bounds_ref[1, place] + 1, add, None)


def _by_lane(x: Float[Array, "R C"]) -> Float[Array, "R K"]:
    """Sums of a row's columns, those of a lane together."""
    return sum(x[:, begin : begin + LANES] for begin in range(0, x.shape[1], LANES))  # pyright: ignore[reportReturnType]
