"""What attention is compared with, and inputs to compare on."""

import jax
import numpy as np


def plain(q, k, v, mask=None):
    """Softmax attention in float64; mask [L, S] of what a query sees."""
    scores = np.einsum("blnk,bsnk->bnls", np.float64(q), np.float64(k)) / np.sqrt(q.shape[-1])
    if mask is not None:
        scores = np.where(mask, scores, -np.inf)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return np.einsum("bnls,bsnk->blnk", weights / weights.sum(-1, keepdims=True), np.float64(v))


def inputs(length, keys, *, batch=2, heads=3, width=8, dtype=np.float32):
    """q [B, L, N, K], k and v [B, S, N, K]."""
    k1, k2, k3 = jax.random.split(jax.random.key(0), 3)
    return (
        jax.random.normal(k1, (batch, length, heads, width), dtype),
        jax.random.normal(k2, (batch, keys, heads, width), dtype),
        jax.random.normal(k3, (batch, keys, heads, width), dtype),
    )
