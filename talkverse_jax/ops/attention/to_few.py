"""Attention to few keys, for TPUs: those of a text, or of a clip's sound, of which a token sees its own frame's.

A step of the grid takes a block of queries of one head, and all keys and values. The block is gone through in parts of
its rows, all of them unrolled: the scores of the next part are computed while the softmax of one is. A part sees all
its keys at once, so that nothing is rescaled.

Shapes: B batch, L queries, S keys, N heads, K head width.
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
from jaxtyping import Array, Float

from talkverse_jax.ops.attention.kernel import MASKED, Segments
from talkverse_jax.ops.attention.tiles import ROWS, even
from talkverse_jax.ops.mosaic import product

# By schedule, 13,000 queries to 512 keys take 43% of a v6e's rate (libtpu 0.0.52; twice as large a block
# 45%, parts of 1,024 rows 38%, of 256 rows 34%).
_QUERIES = 6528  # of a block, about
_PART = 1632  # of its rows


def attention_to_few(
    q: Float[Array, "B L N K"],
    k: Float[Array, "B S N K"],
    v: Float[Array, "B S N K"],
    segments: Segments | None,
    *,
    sum_by_product: bool,
    vmem: int,
    interpret: bool = False,
) -> Float[Array, "B L N K"]:
    """Attention as `kernel.Kernel` has it, without gradients.

    Args:
      sum_by_product: probabilities are summed by the matrix units.
      vmem: bytes of vector memory that the kernel may take.
    """
    batch, length, heads, width = q.shape
    keys, rows = k.shape[1], even(length, _QUERIES, ROWS)
    flat = lambda x: x.reshape(*x.shape[:2], heads * width)  # noqa: E731
    of_queries = pl.BlockSpec((None, rows, width), lambda b, i, n: (b, i, n))
    of_keys = pl.BlockSpec((None, keys, width), lambda b, i, n: (b, 0, n))
    arrays, specs = [flat(q), flat(k), flat(v)], [of_queries, of_keys, of_keys]
    if segments is not None:
        arrays += [segments.queries[:, None], segments.keys[None]]
        specs += [pl.BlockSpec((rows, 1), lambda b, i, n: (i, 0)), pl.BlockSpec((1, keys), lambda b, i, n: (0, 0))]
    out = pl.pallas_call(
        functools.partial(_attend, sum_by_product=sum_by_product),
        grid=(batch, pl.cdiv(length, rows), heads),
        in_specs=specs,
        out_specs=of_queries,
        out_shape=jax.ShapeDtypeStruct(flat(q).shape, q.dtype),
        compiler_params=pltpu.CompilerParams(
            dimension_semantics=("parallel", "parallel", "parallel"), vmem_limit_bytes=vmem
        ),
        cost_estimate=pl.CostEstimate(
            flops=4 * batch * heads * length * keys * width,
            transcendentals=batch * heads * length * keys,
            bytes_accessed=2 * batch * heads * width * (length + keys) * q.dtype.itemsize,
        ),
        interpret=interpret,
        name="attention_to_few",
    )(*arrays)
    return out.reshape(q.shape)


def _attend(q_ref: Any, k_ref: Any, v_ref: Any, *refs: Any, sum_by_product: bool) -> None:
    """One block of queries and all keys of a head."""
    *of_segments, out_ref = refs
    (rows, width), k, v = q_ref.shape, k_ref[...], v_ref[...]
    values = jnp.concatenate([v, jnp.ones_like(v)], axis=1) if sum_by_product else v
    parts = [slice(begin, min(begin + _PART, rows)) for begin in range(0, rows, _PART)]

    def scores(part: slice) -> Array:
        q = (q_ref[part, :].astype(jnp.float32) * (width**-0.5 * math.log2(math.e))).astype(q_ref.dtype)
        found = product(q, k, (1, 1))
        if not of_segments:
            return found
        of_query, of_key = of_segments
        return jnp.where(of_query[part, :] == of_key[...], found, MASKED)

    found = scores(parts[0])
    for index, part in enumerate(parts):
        following = scores(parts[index + 1]) if index + 1 < len(parts) else found
        weights = jnp.exp2(found - found.max(axis=1, keepdims=True))
        out = product(weights.astype(values.dtype), values, (1, 0))
        total = out[:, width : width + 1] if sum_by_product else weights.sum(axis=1, keepdims=True)
        out_ref[part, :] = (out[:, :width] / total).astype(out_ref.dtype)
        found = following
