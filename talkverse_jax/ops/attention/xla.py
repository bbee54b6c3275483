"""Attention in plain XLA, on any device.

Shapes: B batch, L queries, l queries of a block, S keys, N heads, K head width.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from einops import rearrange
from jaxtyping import Array, Float, Int

from talkverse_jax.ops.attention.kernel import MASKED, Segments

# Scores kept at once. 24 heads at 13,000 tokens would take 16 GB whole.
SCORE_BYTES = 512 * 2**20


def in_query_blocks(
    attend: Callable,
    q: Float[Array, "B L N K"],
    keys: int,
    segments: Int[Array, " L"] | None = None,
):
    """Apply `attend` to blocks of the queries, so that the float32 scores of one block with all `keys` take at
    most half a gigabyte; the result is the same. A gradient computes those of a block again.

    Args:
      attend: takes queries [B, l, N, K], and their segments [l] if those are given; returns an array
        [B, l, N, ...] or several.
    """
    batch, length, heads, _ = q.shape
    given = (q,) if segments is None else (q, segments)
    rows = max(1, SCORE_BYTES // (4 * batch * heads * keys))
    if length <= rows:
        return attend(*given)
    blocks = -(-length // rows)
    rows = -(-length // blocks)  # even blocks leave the least padding
    padding = blocks * rows - length
    split = [rearrange(_pad(q, 1, padding), "b (blocks rows) n k -> blocks b rows n k", blocks=blocks)]
    if segments is not None:
        split.append(rearrange(_pad(segments, 0, padding), "(blocks rows) -> blocks rows", blocks=blocks))
    out = jax.lax.map(jax.checkpoint(lambda block: attend(*block)), tuple(split))
    join = lambda x: rearrange(x, "blocks b rows ... -> b (blocks rows) ...")[:, :length]  # noqa: E731
    return jax.tree.map(join, out)


def xla_attention(
    q: Float[Array, "B L N K"],
    k: Float[Array, "B S M K"],
    v: Float[Array, "B S M K"],
    segments: Segments | None = None,
    *,
    logsumexp: bool = False,
):
    """Attention as `kernel.Kernel` has it; long inputs run over blocks of queries. Keys and values may have fewer
    heads (M), which so many heads of the queries share."""

    def block(q: Float[Array, "B l N K"], queries: Int[Array, " l"] | None = None):
        mask = None if segments is None or queries is None else (queries[:, None] == segments.keys)[None, None]
        if logsumexp:
            return _with_logsumexp(q, k, v, mask)
        return jax.nn.dot_product_attention(q, k, v, mask=mask, implementation="xla")

    return in_query_blocks(block, q, k.shape[1], None if segments is None else segments.queries)


def _with_logsumexp(q, k, v, mask) -> tuple[Float[Array, "B L N K"], Float[Array, "B L N"]]:
    """jax.nn rounds a log-sum-exp to the dtype of the keys, too coarse to merge parts by."""
    scores = jnp.einsum("blnk,bsnk->bnls", q, k, preferred_element_type=jnp.float32) * q.shape[-1] ** -0.5
    if mask is not None:
        scores = jnp.where(mask, scores, MASKED)
    total = jax.nn.logsumexp(scores, axis=-1)
    weights = jnp.exp(scores - total[..., None]).astype(v.dtype)
    out = jnp.einsum("bnls,bsnk->blnk", weights, v)
    return out, rearrange(total, "b n l -> b l n")


def _pad(x: Array, axis: int, end: int) -> Array:
    return jnp.pad(x, [(0, end if i == axis else 0) for i in range(x.ndim)])
