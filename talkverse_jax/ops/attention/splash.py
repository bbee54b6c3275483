"""Splash attention, JAX's Pallas kernel for TPUs.

Shapes: B batch, L queries, S keys, N heads, K head width.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from einops import rearrange
from jax.experimental.pallas.ops.tpu import splash_attention as splash
from jaxtyping import Array, Float

from talkverse_jax.ops.attention.kernel import Segments
from talkverse_jax.ops.attention.tiles import LANES, TILES, Blocks, Tiles, fit

_PADDING = -1  # the segment of padding


def refusal(platform: str, dtype: jnp.dtype, head_width: int, device_kind: str) -> str | None:
    """Why the kernel cannot run, or None."""
    if platform != "tpu":
        return f"it runs on TPUs, not on a {platform}"
    if device_kind not in TILES:
        return f"no tile sizes are known for a {device_kind}"
    if head_width % 64:
        return f"it takes heads of 64, 128, ... channels, not {head_width}"
    return None


def splash_attention(
    q: Float[Array, "B L N K"],
    k: Float[Array, "B S N K"],
    v: Float[Array, "B S N K"],
    segments: Segments | None = None,
    *,
    logsumexp: bool = False,
    tiles: Tiles,
    interpret: bool = False,
):
    """Attention as `kernel.Kernel` has it, of any length: padding to whole blocks is masked.

    Args:
      tiles: the wanted tile of scores.
      interpret: run the kernel step by step without a TPU, for tests.
    """
    length, keys = q.shape[1], k.shape[1]
    # the backward kernels take queries along the lanes; nothing is differentiated that wants a log-sum-exp
    rows = 32 // q.dtype.itemsize if logsumexp else LANES
    # the tile in bytes stays that of 16 bits
    tiles = dataclasses.replace(tiles, queries=tiles.queries * 2 // q.dtype.itemsize)
    blocks = fit(tiles, length, keys, rows)
    if segments is None and blocks.padded_keys > keys:
        segments = Segments(jnp.zeros(length, jnp.int32), jnp.zeros(keys, jnp.int32))
    segment_ids = segments and splash.SegmentIds(
        q=_pad(segments.queries, 0, blocks.padded_queries, _PADDING),
        kv=_pad(segments.keys, 0, blocks.padded_keys, _PADDING),
    )
    q = (q.astype(jnp.float32) * q.shape[-1] ** -0.5).astype(q.dtype)
    heads, dtype = q.shape[2], q.dtype
    # splash knows no batch: its rows are so many more heads
    q, k, v = (
        rearrange(_pad(x, 1, padded), "b l n k -> (b n) l k")
        for x, padded in ((q, blocks.padded_queries), (k, blocks.padded_keys), (v, blocks.padded_keys))
    )
    kernel = _kernel(blocks, q.shape[0], logsumexp, interpret)
    # products of 16 bits have one precision; Mosaic does not compile with another
    config: Any = jax.config  # its names are made at run time
    precision = config.jax_default_matmul_precision if dtype == jnp.float32 else "default"
    out = _at_precision(kernel, precision)(q, k, v, segment_ids)
    join = lambda x: rearrange(x, "(b n) l ... -> b l n ...", n=heads)[:, :length]  # noqa: E731
    if logsumexp:
        out, (total,) = out
        return join(out), join(total)
    return join(out)


def _kernel(blocks: Blocks, heads: int, logsumexp: bool, interpret: bool) -> Callable:
    mask = splash.FullMask((blocks.padded_queries, blocks.padded_keys))
    return splash.make_splash_mha(
        splash.MultiHeadMask([mask] * heads),
        block_sizes=splash.BlockSizes(
            block_q=blocks.queries,
            block_kv=blocks.keys,
            block_q_dkv=blocks.queries,
            block_kv_dkv=blocks.keys,
            block_q_dq=blocks.queries,
            block_kv_dq=blocks.keys,
        ),
        save_residuals=logsumexp,
        head_shards=1,
        q_seq_shards=1,
        interpret=interpret,
    )


def _at_precision(kernel: Callable, precision: str | None) -> Callable:
    """The kernel with its products at a precision, also where JAX traces it, or its gradient, later and outside any
    context."""

    def forward(q, k, v, segments):
        with jax.default_matmul_precision(precision):
            return jax.vjp(lambda q, k, v: kernel(q, k, v, segments), q, k, v)

    def backward(pullback, cotangent):
        with jax.default_matmul_precision(precision):
            return (*pullback(cotangent), None)

    @jax.custom_vjp
    def attend(q, k, v, segments):
        with jax.default_matmul_precision(precision):
            return kernel(q, k, v, segments)

    attend.defvjp(forward, backward)
    return attend


def _pad(x: Array, axis: int, length: int, value: int = 0) -> Array:
    widths = [(0, length - x.shape[i] if i == axis else 0) for i in range(x.ndim)]
    return jnp.pad(x, widths, constant_values=value)
