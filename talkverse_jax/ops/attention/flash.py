"""Our attention kernel for TPUs: a head is a block of lanes, so that no axis moves on the way in or out.

A step of the grid takes one head's block of queries and all keys and values of that head, which stay in VMEM. The keys
are gone through in parts, all of them unrolled: the scores of the next part are computed while the softmax of one is.
The last part is as long as the keys are, not padded and masked. Scores are powers of two (the scale has log2(e) in it),
their maximum is kept as in FlashAttention-2, probabilities are multiplied as 16 bits. Where the matrix units are wider
than a head, their free columns sum the probabilities. Gradients have a kernel of their own (`flash_gradient`).

Shapes: B batch, L queries, S keys, N heads, K head width, D = N K.
"""

import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from einops import rearrange
from jax.ad_checkpoint import checkpoint_name
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
from jaxtyping import Array, Float

from talkverse_jax.ops.attention import flash_gradient, to_few
from talkverse_jax.ops.attention.flash_gradient import Known
from talkverse_jax.ops.attention.kernel import MASKED, Kernel, Segments
from talkverse_jax.ops.attention.tiles import LANES, ROWS, even
from talkverse_jax.ops.mosaic import product
from talkverse_jax.ops.remat import ATTENTION

_MOST_PARTS = 24  # that are unrolled
_WORTH = 2  # parts of keys from which on a backward pass may find the result kept: to a text it is soon made again
_MIB = 2**20


@dataclasses.dataclass(frozen=True)
class FlashBlocks:
    """How the kernel works on a kind of TPU.

    Attributes:
      queries: rows of a block, about.
      keys: of a part.
      sum_by_product: probabilities are summed by the matrix units.
      vmem: bytes of vector memory that a kernel may take.
      gradient: rows and columns of a tile of scores in the kernel of gradients, about.
      few: keys up to which they are taken all at once (`to_few`).
    """

    queries: int
    keys: int
    sum_by_product: bool
    vmem: int
    gradient: tuple[int, int] = (1024, 1024)
    few: int = 1024


# By `device_kind`, found by the compiler's schedule for 13,000 tokens in 24 heads of 128 (libtpu 0.0.52, 2026-11-28),
# as a share of the data sheet's rate: v5e 512 x 1024 94.1%, 1024 x 1024 93.4%; v6e 1088 x 2048 47.6%, 768 x 2048
# 47.5%, 1088 x 1024 46.4%, 512 x 1024 45.4%, and without the sum by product 37%. Of v5e, v5p (as
# v5e) and tpu7x (as v6e) the schedule does not tell all that the matrix units wait for.
BLOCKS = {
    "TPU v5 lite": FlashBlocks(queries=512, keys=1024, sum_by_product=False, vmem=100 * _MIB),
    "TPU v5": FlashBlocks(queries=512, keys=1024, sum_by_product=False, vmem=64 * _MIB),
    "TPU v6 lite": FlashBlocks(queries=1088, keys=2048, sum_by_product=True, vmem=100 * _MIB),
    "TPU7x": FlashBlocks(queries=1088, keys=2048, sum_by_product=True, vmem=48 * _MIB, gradient=(1024, 512)),
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
      otherwise: the kernel for what this one cannot do: segments of many keys and their gradients, and gradients of
        sequences that vector memory cannot hold.
      interpret: run the kernel step by step without a TPU, for tests.
    """
    few = not logsumexp and k.shape[1] <= blocks.few
    if segments is not None and not few or not takes(blocks, q.dtype, k.shape[1], q.shape[-1]):
        return otherwise(q, k, v, segments, logsumexp=logsumexp)
    if logsumexp:  # of which there is no gradient
        out, total = _call(q, k, v, blocks, interpret, sums=True)
        return out, jnp.moveaxis(total, 1, 2) * math.log(2)

    @jax.custom_vjp
    def attend(q, k, v, segments):
        if few:
            options = {"sum_by_product": blocks.sum_by_product, "vmem": blocks.vmem, "interpret": interpret}
            return to_few.attention_to_few(q, k, v, segments, **options)
        return _call(q, k, v, blocks, interpret)[0]

    def forward(q, k, v, segments):
        if segments is not None or not flash_gradient.takes(blocks.gradient, q.shape[1], blocks.vmem):
            return jax.vjp(lambda q, k, v: otherwise(q, k, v, segments), q, k, v)
        out, total = _call(q, k, v, blocks, interpret, sums=True)
        if k.shape[1] >= _WORTH * blocks.keys:
            rows = checkpoint_name(_flat(out), ATTENTION)  # heads apart would be kept in another layout
            out, total = rows.reshape(q.shape), checkpoint_name(total, ATTENTION)
        return out, Known(q, k, v, out, total)

    def backward(known, gradient):
        if not isinstance(known, Known):
            return *known(gradient), None
        return *flash_gradient.gradients(known, gradient, blocks.gradient, blocks.vmem, interpret), None

    attend.defvjp(forward, backward)
    return attend(q, k, v, segments)


def _call(q, k, v, blocks: FlashBlocks, interpret: bool, sums: bool = False) -> tuple[Array, ...]:
    """The result; with `sums` also the log-sum-exp of each query's scaled scores, to base 2: [B, N, L] float32."""
    batch, length, heads, width = q.shape
    keys = k.shape[1]
    rows = even(length, blocks.queries, ROWS)
    count = pl.cdiv(length, rows)
    of_queries = pl.BlockSpec((None, rows, width), lambda b, n, i: (b, i, n))
    of_keys = pl.BlockSpec((None, keys, width), lambda b, n, i: (b, 0, n))
    of_sums = pl.BlockSpec((None, None, None, 1, rows), lambda b, n, i: (b, n, i, 0, 0))
    products = 4 * batch * heads * length * keys * width
    result = jax.ShapeDtypeStruct((batch, length, heads * width), q.dtype)
    totals = jax.ShapeDtypeStruct((batch, heads, count, 1, rows), jnp.float32)
    out, *found = pl.pallas_call(
        functools.partial(_attend, part=blocks.keys, sum_by_product=blocks.sum_by_product),
        grid=(batch, heads, count),
        in_specs=[of_queries, of_keys, of_keys],
        out_specs=[of_queries, of_sums] if sums else [of_queries],
        out_shape=[result, totals] if sums else [result],
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
    )(_flat(q), _flat(k), _flat(v))
    return out.reshape(q.shape), *(rearrange(x, "b n i one l -> b n (i one l)")[..., :length] for x in found)


def _flat(x: Float[Array, "B L N K"]) -> Float[Array, "B L D"]:
    return x.reshape(*x.shape[:2], -1)


def _attend(q_ref: Any, k_ref: Any, v_ref: Any, out_ref: Any, *sum_refs: Any, part: int, sum_by_product: bool) -> None:
    """One block of queries and all keys of a head."""
    rows, width = q_ref.shape
    q = (q_ref[...].astype(jnp.float32) * (width**-0.5 * math.log2(math.e))).astype(q_ref.dtype)
    keys = k_ref.shape[0]
    parts = [(begin, min(part, keys - begin)) for begin in range(0, keys, part)]

    def scores(begin: int, size: int) -> Array:
        return product(q, k_ref[pl.ds(begin, size), :], (1, 1))

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
        out = out * shrink + product(weights.astype(values.dtype), values, (1, 0))
        found = following
    if sum_by_product:
        out, total = out[:, :width], out[:, width : width + 1]
    out_ref[...] = (out / total).astype(out_ref.dtype)
    for ref in sum_refs:
        ref[...] = jnp.broadcast_to(largest + jnp.log2(total), (rows, width)).T[:1]
