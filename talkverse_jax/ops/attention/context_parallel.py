"""Self-attention of a sequence that several devices share, around any kernel. All of it runs within shard_map.

Two ways, and both at once:
  Ulysses   an all-to-all gives each device all tokens of some heads, another one gives the tokens back. A device
            receives (u-1)/u of its q, k, v and result.
  ring      the keys and values of a device go round, and each device merges what its queries find in them by
            log-sum-exp. A device receives r-1 times as much as its k and v.

Shapes: B batch, L tokens, l tokens of a device, N heads, n heads of a device, K head width.
"""

import functools
from collections.abc import Sequence

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from talkverse_jax.ops.attention.kernel import MASKED, Kernel, Segments

Axes = Sequence[str]


def shared_attention(
    kernel: Kernel,
    q: Float[Array, "B l N K"],
    k: Float[Array, "B l N K"],
    v: Float[Array, "B l N K"],
    *,
    tokens: int,
    ring: Axes,
    ulysses: Axes,
) -> Float[Array, "B l N K"]:
    """Self-attention over mesh axes; the tokens are split over `ring`, then over `ulysses`.

    Args:
      tokens: of the whole sequence; what comes after them is padding.
    """
    if ulysses:
        to_heads = functools.partial(
            lax.all_to_all, axis_name=tuple(ulysses), split_axis=2, concat_axis=1, tiled=True
        )
        q, k, v = to_heads(q), to_heads(k), to_heads(v)
    out = _ring(kernel, q, k, v, tokens, tuple(ring)) if ring else whole_attention(kernel, q, k, v, tokens)
    if ulysses:
        out = lax.all_to_all(out, tuple(ulysses), split_axis=1, concat_axis=2, tiled=True)
    return out


def whole_attention(
    kernel: Kernel,
    q: Float[Array, "B L n K"],
    k: Float[Array, "B L n K"],
    v: Float[Array, "B L n K"],
    tokens: int,
) -> Float[Array, "B L n K"]:
    """Self-attention of a sequence that lies on one device; the rows of padding are zero."""
    out = kernel(q[:, :tokens], k[:, :tokens], v[:, :tokens])
    return jnp.pad(out, ((0, 0), (0, q.shape[1] - tokens), (0, 0), (0, 0)))


def _ring(kernel: Kernel, q, k, v, tokens: int, axes: tuple[str, ...]) -> Float[Array, "B l n K"]:
    """Each step attends to one device's keys while they travel on to the next device."""
    size, here, length = lax.axis_size(axes), lax.axis_index(axes), q.shape[1]
    onward = [(i, (i + 1) % size) for i in range(size)]

    def merge(state, step, k, v):
        out, total = state
        segments = None
        if tokens < size * length:
            real = tokens - (here - step) % size * length  # of the keys that came from so many devices before
            segments = Segments(jnp.zeros(length, jnp.int32), (jnp.arange(length) >= real).astype(jnp.int32))
        found, found_total = kernel(q, k, v, segments, logsumexp=True)
        new_total = jnp.logaddexp(total, found_total)
        out = out * jnp.exp(total - new_total)[..., None]
        out += found * jnp.exp(found_total - new_total)[..., None]
        return out, new_total

    def step(carry, i):
        state, k, v = carry
        next_k, next_v = (lax.ppermute(x, axes, onward) for x in (k, v))
        return (merge(state, i, k, v), next_k, next_v), None

    start = jnp.zeros(q.shape, jnp.float32), jnp.full(q.shape[:-1], MASKED, jnp.float32)
    (state, k, v), _ = lax.scan(step, (start, k, v), jnp.arange(size - 1))
    return merge(state, size - 1, k, v)[0].astype(q.dtype)
