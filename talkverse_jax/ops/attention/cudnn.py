"""cuDNN's fused attention, for NVIDIA GPUs.

Shapes: B batch, L queries, S keys, N heads, K head width.
"""

import jax
import jax.numpy as jnp
from einops import rearrange
from jaxtyping import Array, Float

from talkverse_jax.core.jax_private import fused_attention
from talkverse_jax.ops.attention.kernel import Segments


def refusal(platform: str, dtype: jnp.dtype, head_width: int) -> str | None:
    """Why the kernel cannot run, or None: it takes 16 bits and heads of at most 128 channels in eights."""
    if platform != "gpu":
        return f"it runs on NVIDIA GPUs, not on a {platform}"
    if dtype not in (jnp.bfloat16, jnp.float16):
        return f"it takes bfloat16 or float16, not {dtype}"
    if head_width > 128 or head_width % 8:
        return f"it takes heads of 8, 16, ... 128 channels, not {head_width}"
    return None


def cudnn_attention(
    q: Float[Array, "B L N K"],
    k: Float[Array, "B S N K"],
    v: Float[Array, "B S N K"],
    segments: Segments | None = None,
    *,
    logsumexp: bool = False,
):
    """Attention as `kernel.Kernel` has it; segments become a mask [L, S], which cuDNN adds to the scores."""
    mask = None if segments is None else (segments.queries[:, None] == segments.keys)[None, None]
    if not logsumexp:
        return jax.nn.dot_product_attention(q, k, v, mask=mask, implementation="cudnn")
    out, total = fused_attention(q, k, v, mask=mask, scale=q.shape[-1] ** -0.5, return_residual=True)
    return out, rearrange(total, "b n l -> b l n")
