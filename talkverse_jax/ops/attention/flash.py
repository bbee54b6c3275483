"""Our attention kernel for TPUs: a head is a block of lanes, so that no axis moves on the way in or out.

A step of the grid takes one head's block of queries and all keys and values of that head, which stay in VMEM. The keys
are gone through in parts, all of them unrolled: the scores of the next part are computed while the softmax of one is.
The last part is as long as the keys are, not padded and masked. Scores are powers of two (the scale has log2(e) in it),
their maximum is kept as in FlashAttention-2, probabilities are multiplied as 16 bits. Where the matrix units are wider
than a head, their free columns sum the probabilities.

Shapes: B batch, L queries, S keys, N heads, K head width.
"""

import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
from jaxtyping import Array, Float

from talkverse_jax.ops.attention.kernel import MASKED, Kernel, Segments
from talkverse_jax.ops.attention.tiles import LANES, round_up

_ROWS = 16  # of a tile of 16-bit numbers
_MOST_PARTS = 24  # that are unrolled
_MIB = 2**20


@dataclasses.dataclass(frozen=True)
class FlashBlocks:
    """How the kernel works on a kind of TPU.

    Attributes:
      queries: rows of a block, about.
      keys: of a part.
      sum_by_product: probabilities are summed by the matrix units.
      vmem: bytes of vector memory that the kernel may take.
    """

    queries: int
    keys: int
    sum_by_product: bool
    vmem: int


# By `device_kind`, found by the compiler's schedule for 13,000 tokens in 24 heads of 128 (libtpu 0.0.52, 2026-11-28),
# as a share of the data sheet's rate: v5e 512 x 1024 94.1%, 1024 x 1024 93.4%; v6e 1088 x 2048 47.6%, 768 x 2048
# 47.5%, 1088 x 1024 46.4%, 512 x 1024 45.4%, and without the sum by product 37%. Of v5p (as v5e) and tpu7x (as v6e) the
# schedule does not tell what the matrix units wait for.
BLOCKS = {
    "TPU v5 lite": FlashBlocks(queries=512, keys=1024, sum_by_product=False, vmem=100 * _MIB),
    "TPU v5": FlashBlocks(queries=512, keys=1024, sum_by_product=False, vmem=64 * _MIB),
    "TPU v6 lite": FlashBlocks(queries=1088, keys=2048, sum_by_product=True, vmem=100 * _MIB),
    "TPU7x": FlashBlocks(queries=1088, keys=2048, sum_by_product=True, vmem=48 * _MIB),
}


def takes(blocks: FlashBlocks, dtype: jnp.dtype, keys: int, head_width: int) -> bool:
    """Whether the kernel can run: 16 bits, heads as wide as the lanes, and keys and values, twice, beside some parts of
    scores in vector memory."""
    held = 2 * 2 * keys * head_width * dtype.itemsize
    scores = 3 * blocks.queries * blocks.keys * 4
    return (
        dtype.itemsize == 2
        and head_width == LANES
        and keys <= _MOST_PARTS * blocks.keys
        and held + scores < blocks.vmem
    )


def flash_attention(
    q: Float[Array, "B L N K"],
    k: Float[Array, "B S N K"],
    v: Float[Array, "B S N K"],
    segments: Segments | None = None,
    *,
    logsumexp: bool = False,
    blocks: FlashBlocks,
    otherwise: Kernel,
    interpret: bool = False,
):
    """Attention as `kernel.Kernel` has it.

    Args:
      otherwise: the kernel for what this one cannot do: segments, a log-sum-exp, and gradients.
      interpret: run the kernel step by step without a TPU, for tests.
    """
    if segments is not None or logsumexp or not takes(blocks, q.dtype, k.shape[1], q.shape[-1]):
        return otherwise(q, k, v, segments, logsumexp=logsumexp)

    @jax.custom_vjp
    def attend(q, k, v):
        return _call(q, k, v, blocks, interpret)

    attend.defvjp(lambda q, k, v: jax.vjp(otherwise, q, k, v), lambda pullback, gradient: pullback(gradient))
    return attend(q, k, v)


def _call(q, k, v, blocks: FlashBlocks, interpret: bool) -> Float[Array, "B L N K"]:
    batch, length, heads, width = q.shape
    keys = k.shape[1]
    rows = _even(length, blocks.queries)
    flat = lambda x: x.reshape(*x.shape[:2], heads * width)  # noqa: E731
    of_queries = pl.BlockSpec((None, rows, width), lambda b, n, i: (b, i, n))
    of_keys = pl.BlockSpec((None, keys, width), lambda b, n, i: (b, 0, n))
    products = 4 * batch * heads * length * keys * width
    out = pl.pallas_call(
        functools.partial(_attend, part=blocks.keys, sum_by_product=blocks.sum_by_product),
        grid=(batch, heads, pl.cdiv(length, rows)),
        in_specs=[of_queries, of_keys, of_keys],
        out_specs=of_queries,
        out_shape=jax.ShapeDtypeStruct((batch, length, heads * width), q.dtype),
        compiler_params=pltpu.CompilerParams(
            dimension_semantics=("parallel", "parallel", "arbitrary"), vmem_limit_bytes=blocks.vmem
        ),
        cost_estimate=pl.CostEstimate(
            flops=products,
            transcendentals=batch * heads * length * keys,
            bytes_accessed=2 * batch * heads * width * (length + keys) * q.dtype.itemsize,
        ),
        interpret=interpret,
        name="flash_attention",
    )(flat(q), flat(k), flat(v))
    return out.reshape(q.shape)


def _attend(q_ref: Any, k_ref: Any, v_ref: Any, out_ref: Any, *, part: int, sum_by_product: bool) -> None:
    """One block of queries and all keys of a head."""
    rows, width = q_ref.shape
    q = (q_ref[...].astype(jnp.float32) * (width**-0.5 * math.log2(math.e))).astype(q_ref.dtype)
    keys = k_ref.shape[0]
    parts = [(begin, min(part, keys - begin)) for begin in range(0, keys, part)]

    def scores(begin: int, size: int) -> Array:
        return _product(q, k_ref[pl.ds(begin, size), :], ((1,), (1,)))

    largest = jnp.full((rows, 1), MASKED, jnp.float32)
    total = jnp.zeros((rows, 1), jnp.float32)
    out = jnp.zeros((rows, 2 * width if sum_by_product else width), jnp.float32)
    found = scores(*parts[0])
    for index, (begin, size) in enumerate(parts):
        following = scores(*parts[index + 1]) if index + 1 < len(parts) else found
        before, largest = largest, jnp.maximum(largest, found.max(axis=1, keepdims=True))
        weights = jnp.exp2(found - largest)
        shrink = jnp.exp2(before - largest)
        values = v_ref[pl.ds(begin, size), :]
        if sum_by_product:
            values = jnp.concatenate([values, jnp.ones_like(values)], axis=1)
        else:
            total = total * shrink + weights.sum(axis=1, keepdims=True)
        out = out * shrink + _product(weights.astype(values.dtype), values, ((1,), (0,)))
        found = following
    if sum_by_product:
        out, total = out[:, :width], out[:, width : width + 1]
    out_ref[...] = (out / total).astype(out_ref.dtype)


def _product(a: Array, b: Array, contracted: tuple[tuple[int, ...], tuple[int, ...]]) -> Array:
    """Of 16 bits, which have one precision; Mosaic does not compile with another."""
    return lax.dot_general(
        a, b, (contracted, ((), ())), precision=lax.Precision.DEFAULT, preferred_element_type=jnp.float32
    )


def _even(length: int, wanted: int) -> int:
    """The rows of a block: as near to what is wanted as equal blocks allow."""
    count = max(1, round(length / wanted))
    return round_up(-(-length // count), _ROWS)
