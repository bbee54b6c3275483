"""What the parts of a block share: the norm, and the way from the residual stream into a stage and back.

Shapes: B batch, L tokens, D width.
"""

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from talkverse_jax.sharding.layout import Layout


def layer_norm(dim: int, eps: float, *, rngs: nnx.Rngs, affine: bool = False, param_dtype=jnp.float32):
    """Layer norm in float32; two-pass variance, which float32 needs to agree with the original."""
    return nnx.LayerNorm(
        dim,
        epsilon=eps,
        use_bias=affine,
        use_scale=affine,
        use_fast_variance=False,
        dtype=jnp.float32,
        param_dtype=param_dtype,
        rngs=rngs,
    )


def enter(layout: Layout, x: Float[Array, "B L D"], dtype) -> Float[Array, "B L D"]:
    """From the residual stream into a stage: where `tensor` devices share the stream, it is gathered in the
    layers' own dtype."""
    return layout.constrain(x.astype(dtype), "batch", "tokens", None)


def leave(layout: Layout, update: Float[Array, "B L D"]) -> Float[Array, "B L D"]:
    """From a stage back to the stream: `tensor` devices' parts of the sum are added and shared out again."""
    return layout.constrain(update, "batch", "stream", None).astype(jnp.float32)
