"""The gradient of our attention kernel for TPUs, in one pass over the scores.

A step of the grid takes a block of keys of one head and all queries of that head, which stay in VMEM with their
gradient until the head's last block of keys. The queries are gone through in parts, all of them unrolled. Scores and
all that comes of them lie with keys as rows, so that the gradients of keys and values are plain products; for that of
the queries the rows are turned. So each score is computed once, in five products: separate kernels for queries and
for keys take seven.

Shapes: B batch, L queries, S keys, N heads, K head width, D = N K.
"""

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
from jaxtyping import Array, Float

from talkverse_jax.ops.attention.tiles import LANES, ROWS, even
from talkverse_jax.ops.mosaic import product

_MOST_PARTS = 32  # that are unrolled


class Known(NamedTuple):
    """What the forward pass leaves to the gradient.

    Attributes:
      total: the log-sum-exp of each query's scaled scores, to base 2.
    """

    q: Float[Array, "B L N K"]
    k: Float[Array, "B S N K"]
    v: Float[Array, "B S N K"]
    out: Float[Array, "B L N K"]
    total: Float[Array, "B N L"]


def takes(tile: tuple[int, int], queries: int, vmem: int) -> bool:
    """Whether the kernel can run: what it keeps of all queries, beside some tiles of scores, in vector memory."""
    held = 3 * 2 * 2 * queries * LANES + 4 * queries * LANES
    return queries <= _MOST_PARTS * tile[1] and held + 6 * 4 * tile[0] * tile[1] < vmem


def gradients(
    known: Known, gradient: Float[Array, "B L N K"], tile: tuple[int, int], vmem: int, interpret: bool = False
) -> tuple[Float[Array, "B L N K"], Float[Array, "B S N K"], Float[Array, "B S N K"]]:
    """Of queries, keys and values.

    Args:
      gradient: of the result.
      tile: keys of a block, about, and queries of a part.
      vmem: bytes of vector memory that the kernel may take.
      interpret: run the kernel step by step without a TPU, for tests.
    """
    q, k, v, out, total = known
    batch, length, heads, width = q.shape
    size = k.shape[1]
    rows = even(size, tile[0], ROWS)
    flat = lambda x: x.reshape(*x.shape[:2], heads * width)  # noqa: E731
    shares = _shares(flat(out), flat(gradient), heads)
    of_queries = pl.BlockSpec((None, length, width), lambda b, n, j: (b, 0, n))
    of_keys = pl.BlockSpec((None, rows, width), lambda b, n, j: (b, j, n))
    of_sums = pl.BlockSpec((None, None, 1, length), lambda b, n, j: (b, n, 0, 0))
    found = pl.pallas_call(
        functools.partial(_pull, part=tile[1], size=size),
        grid=(batch, heads, pl.cdiv(size, rows)),
        in_specs=[of_queries, of_keys, of_keys, of_queries, of_sums, of_sums],
        out_specs=[of_queries, of_keys, of_keys],
        out_shape=[jax.ShapeDtypeStruct((batch, x.shape[1], heads * width), x.dtype) for x in (q, k, v)],
        scratch_shapes=[pltpu.VMEM((length, width), jnp.float32)],
        compiler_params=pltpu.CompilerParams(
            dimension_semantics=("parallel", "parallel", "arbitrary"), vmem_limit_bytes=vmem
        ),
        cost_estimate=pl.CostEstimate(
            flops=10 * batch * heads * length * size * width,
            transcendentals=batch * heads * length * size,
            bytes_accessed=batch * heads * width * (3 * length + 4 * size) * q.dtype.itemsize,
        ),
        interpret=interpret,
        name="flash_gradient",
    )(flat(q), flat(k), flat(v), flat(gradient), total[:, :, None], shares[:, :, None])
    dq, dk, dv = (x.reshape(*x.shape[:2], heads, width) for x in found)
    return dq, dk, dv


def _shares(out: Float[Array, "B L D"], gradient: Float[Array, "B L D"], heads: int) -> Float[Array, "B N L"]:
    """Sums over the channels of each head. As products with ones, which take rows as they lie: to sum over a part of
    the lanes, XLA:TPU would turn the arrays to another layout first, as it would where it saw that heads were apart
    before. In two parts of 16 bits, for float32's sake."""
    out, gradient = lax.optimization_barrier((out, gradient))
    both = out.astype(jnp.float32) * gradient.astype(jnp.float32)
    high = lax.reduce_precision(both, exponent_bits=8, mantissa_bits=7)
    ones = jnp.repeat(jnp.eye(heads, dtype=jnp.bfloat16), both.shape[-1] // heads, axis=1)
    parts = (part.astype(jnp.bfloat16) for part in (high, both - high))
    high, low = (jnp.einsum("nd,bld->bnl", ones, part, preferred_element_type=jnp.float32) for part in parts)
    return high + low


def _pull(
    q_ref: Any,
    k_ref: Any,
    v_ref: Any,
    gradient_ref: Any,
    total_ref: Any,
    share_ref: Any,
    dq_ref: Any,
    dk_ref: Any,
    dv_ref: Any,
    sum_ref: Any,
    *,
    part: int,
    size: int,
) -> None:
    """One block of keys and all queries of a head."""
    place = pl.program_id(2)
    rows, width = k_ref.shape
    length = q_ref.shape[0]
    scale = width**-0.5
    k, v = k_ref[...], v_ref[...]
    if size % rows:  # what lies behind the last key may be anything
        real = lax.broadcasted_iota(jnp.int32, (rows, 1), 0) < size - place * rows
        k, v = (jnp.where(real, x, jnp.zeros_like(x)) for x in (k, v))
    parts = [(begin, min(part, length - begin)) for begin in range(0, length, part)]

    @pl.when(place == 0)
    def _():
        sum_ref[...] = jnp.zeros_like(sum_ref)

    def products(begin: int, count: int) -> tuple[Array, Array, Array, Array]:
        at = pl.ds(begin, count)
        q = (q_ref[at, :].astype(jnp.float32) * (scale * math.log2(math.e))).astype(k.dtype)
        gradient = gradient_ref[at, :]
        return q, gradient, product(k, q, (1, 1)), product(v, gradient, (1, 1))

    dk, dv = jnp.zeros((rows, width), jnp.float32), jnp.zeros((rows, width), jnp.float32)
    found = products(*parts[0])
    for index, (begin, count) in enumerate(parts):
        following = products(*parts[index + 1]) if index + 1 < len(parts) else found
        q, gradient, scores, pulled = found
        at = pl.ds(begin, count)
        # no probability is above one; rows without a key, whose scores are zero, stay finite so
        weights = jnp.exp2(jnp.minimum(scores - total_ref[:, at], 0.0))
        changes = (weights * (pulled - share_ref[:, at])).astype(k.dtype)
        dv += product(weights.astype(k.dtype), gradient, (1, 0))
        dk += product(changes, q, (1, 0))
        sum_ref[at, :] += product(changes, k, (0, 0))
        found = following
    dk_ref[...] = (dk * math.log(2)).astype(dk_ref.dtype)  # of queries that are scaled for powers of two
    dv_ref[...] = dv.astype(dv_ref.dtype)

    @pl.when(place == pl.num_programs(2) - 1)
    def _():
        dq_ref[...] = (sum_ref[...] * scale).astype(dq_ref.dtype)
