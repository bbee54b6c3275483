"""The layer norm of all models."""

import jax.numpy as jnp
from flax import nnx


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
