"""Self-attention of a sequence that several devices share, around any kernel. All of it runs within shard_map.

Two ways, and both at once:
  Ulysses   an all-to-all gives each device all tokens of some heads, another one gives the tokens back. A device
            receives (u-1)/u of its q, k, v and result.
  ring      the keys and values of a device go round, and each device merges what its queries find in them by
            log-sum-exp. A device receives r-1 times as much as its k and v; for a gradient r times these and
            theirs, in float32.

Shapes: B batch, L tokens, l tokens of a device, N heads, n heads of a device, K head width.
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from talkverse_jax.ops.attention.kernel import MASKED, Kernel, Segments
from talkverse_jax.ops.attention.xla import xla_attention

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
        q, k, v = (_exchanged(x, ulysses, split=2, join=1) for x in (q, k, v))
    if ring:
        out: Any = _ring(kernel, q, k, v, tokens, tuple(ring))
    else:
        out = whole_attention(kernel, q, k, v, tokens)
    return _exchanged(out, ulysses, split=1, join=2) if ulysses else out


def _exchanged(x: Float[Array, "B l N K"], axes: Axes, split: int, join: int) -> Float[Array, "B m n K"]:
    """By an all-to-all, tokens for heads or back. Heads travel as blocks of channels, so that no axis has to move."""
    flat = x.reshape(*x.shape[:2], -1)
    flat = lax.all_to_all(flat, tuple(axes), split_axis=split, concat_axis=join, tiled=True)
    return flat.reshape(*flat.shape[:2], -1, x.shape[-1])


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


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 4, 5))
def _ring(kernel: Kernel, q, k, v, tokens: int, axes: tuple[str, ...]) -> Float[Array, "B l n K"]:
    """Each step attends to one device's keys while they travel on to the next device."""
    return _merged(kernel, q, k, v, tokens, axes)[0]


def _merged(
    kernel: Kernel, q, k, v, tokens: int, axes: tuple[str, ...]
) -> tuple[Float[Array, "B l n K"], Float[Array, "B l n"]]:
    """The result, and the log-sum-exp of each query's scaled scores with all keys."""

    def merge(state, step, k, v):
        out, total = state
        found, found_total = kernel(q, k, v, _seen(step, q.shape[1], tokens, axes), logsumexp=True)
        new_total = jnp.logaddexp(total, found_total)
        out = out * jnp.exp(total - new_total)[..., None]
        out += found * jnp.exp(found_total - new_total)[..., None]
        return out, new_total

    def step(carry, i):
        state, k, v = carry
        next_k, next_v = _onward(axes, k, v)
        return (merge(state, i, k, v), next_k, next_v), None

    last = lax.axis_size(axes) - 1
    start = jnp.zeros(q.shape, jnp.float32), jnp.full(q.shape[:-1], MASKED, jnp.float32)
    (state, k, v), _ = lax.scan(step, (start, k, v), jnp.arange(last))
    out, total = merge(state, last, k, v)
    return out.astype(q.dtype), total


def _ring_forward(kernel: Kernel, q, k, v, tokens: int, axes: tuple[str, ...]):
    out, total = _merged(kernel, q, k, v, tokens, axes)
    return out, (q, k, v, out, total)


def _ring_backward(kernel: Kernel, tokens: int, axes: tuple[str, ...], kept, gradient: Float[Array, "B l n K"]):
    """Keys and values go round once more, and their gradients with them.

    Given the log-sum-exp of all scores, what one device's keys add to a result is

        part(q, k, v) = exp(scores - total) v,    share(q, k) = sum(exp(scores - total)),

    and the shares add up to 1: the gradient through `total` is that of each share, times -(result . gradient). All
    of it is plain XLA, whatever the kernel: the gradients of the fused ones leave the log-sum-exp out. That is
    slow: 13,000 tokens on eight TPU v6e take 14 ms at best (memory) with a ring of two, by Ulysses alone 1.3 ms.
    """
    q, k, v, out, total = kept
    through_total = -jnp.sum(out.astype(jnp.float32) * gradient.astype(jnp.float32), axis=-1)

    def step(carry, i):
        dq, k, v, dk, dv = carry

        def part(q, k, v):
            found, found_total = xla_attention(q, k, v, _seen(i, q.shape[1], tokens, axes), logsumexp=True)
            share = jnp.exp(found_total - total)
            return found * share[..., None], share

        _, pullback = jax.vjp(part, q, k, v)
        dq, dk, dv = map(jnp.add, (dq, dk, dv), pullback((gradient.astype(jnp.float32), through_total)))
        return (dq, *_onward(axes, k, v, dk, dv)), None

    none = tuple(jnp.zeros(x.shape, jnp.float32) for x in (q, k, v))
    (dq, _, _, dk, dv), _ = lax.scan(step, (none[0], k, v, *none[1:]), jnp.arange(lax.axis_size(axes)))
    return dq.astype(q.dtype), dk.astype(k.dtype), dv.astype(v.dtype)


_ring.defvjp(_ring_forward, _ring_backward)


def _onward(axes: tuple[str, ...], *arrays: Array) -> tuple[Array, ...]:
    size = lax.axis_size(axes)
    return tuple(lax.ppermute(x, axes, [(i, (i + 1) % size) for i in range(size)]) for x in arrays)


def _seen(step, length: int, tokens: int, axes: tuple[str, ...]) -> Segments | None:
    """Which of the keys that have come `step` devices far are no padding; None: all."""
    size = lax.axis_size(axes)
    if tokens == size * length:
        return None
    real = tokens - (lax.axis_index(axes) - step) % size * length
    return Segments(jnp.zeros(length, jnp.int32), (jnp.arange(length) >= real).astype(jnp.int32))
