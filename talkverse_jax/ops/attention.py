"""Softmax attention behind one signature.

Shapes: B batch, L queries, S keys, N heads, K head width. A kernel is any function
`(q [B,L,N,K], k [B,S,N,K], v [B,S,N,K]) -> [B,L,N,K]` with scale 1/sqrt(K), no mask, softmax in float32.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from einops import rearrange
from jaxtyping import Array, Float

Attention = Callable[
    [Float[Array, "B L N K"], Float[Array, "B S N K"], Float[Array, "B S N K"]], Float[Array, "B L N K"]
]

# Scores kept at once by the plain kernel. 24 heads at 13,000 tokens would take 16 GB whole.
SCORE_BYTES = 512 * 2**20


def in_query_blocks(
    attend: Callable[[Float[Array, "B l N K"]], Float[Array, "B l N K"]],
    q: Float[Array, "B L N K"],
    keys: int,
) -> Float[Array, "B L N K"]:
    """Apply `attend` to blocks of the queries, so that the float32 scores of one block with all `keys` take at
    most half a gigabyte; the result is the same."""
    batch, length, heads, _ = q.shape
    rows = max(1, SCORE_BYTES // (4 * batch * heads * keys))
    if length <= rows:
        return attend(q)
    blocks = -(-length // rows)
    rows = -(-length // blocks)  # even blocks leave the least padding
    q = jnp.pad(q, ((0, 0), (0, blocks * rows - length), (0, 0), (0, 0)))
    out = jax.lax.map(attend, rearrange(q, "b (blocks rows) n k -> blocks b rows n k", blocks=blocks))
    return rearrange(out, "blocks b rows n k -> b (blocks rows) n k")[:, :length]


def xla_attention(
    q: Float[Array, "B L N K"], k: Float[Array, "B S N K"], v: Float[Array, "B S N K"]
) -> Float[Array, "B L N K"]:
    """Attention in plain XLA, on any device; long inputs run over blocks of queries."""
    return in_query_blocks(
        lambda block: jax.nn.dot_product_attention(block, k, v, implementation="xla"), q, k.shape[1]
    )


def cudnn_attention(
    q: Float[Array, "B L N K"], k: Float[Array, "B S N K"], v: Float[Array, "B S N K"]
) -> Float[Array, "B L N K"]:
    """cuDNN's fused attention, for NVIDIA GPUs and 16-bit inputs."""
    return jax.nn.dot_product_attention(q, k, v, implementation="cudnn")


def default_attention(
    q: Float[Array, "B L N K"], k: Float[Array, "B S N K"], v: Float[Array, "B S N K"]
) -> Float[Array, "B L N K"]:
    """cuDNN on a GPU where it can (16 bits, heads of at most 128 channels in eights), XLA anywhere else."""
    head_dim = q.shape[-1]
    fits = q.dtype in (jnp.bfloat16, jnp.float16) and head_dim <= 128 and head_dim % 8 == 0
    fused = fits and jax.default_backend() == "gpu"
    return (cudnn_attention if fused else xla_attention)(q, k, v)
