"""What the parts of a block share: the way from the residual stream into a stage and back.

The stream is float32, or rounded to bfloat16 after every stage, as MultiTalk's original has it.

Shapes: B batch, L tokens, D width.
"""

import jax.numpy as jnp
from jax import lax
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Float

from talkverse_jax.ops.remat import UPDATE
from talkverse_jax.sharding.layout import Layout


def enter(layout: Layout, x: Float[Array, "B L D"], dtype) -> Float[Array, "B L D"]:
    """From the residual stream into a stage: where `tensor` devices share the stream, it is gathered in the
    layers' own dtype."""
    return layout.constrain(x.astype(dtype), "batch", "tokens", None)


def apart(layout: Layout, x: Float[Array, "B L D"]) -> Float[Array, "B L D"]:
    """What a product takes, made before it: a TPU's compiler would make it again for every block of the product that it
    is fused into, and the matrix units wait meanwhile. Elsewhere nothing."""
    return lax.optimization_barrier(x) if layout.platform == "tpu" else x


def leave(layout: Layout, update: Float[Array, "B L D"]) -> Float[Array, "B L D"]:
    """From a stage back to the stream: `tensor` devices' parts of the sum are added and shared out again. A backward
    pass may find it kept."""
    return checkpoint_name(layout.constrain(update, "batch", "stream", None), UPDATE).astype(jnp.float32)


def residual(x: Float[Array, "B L D"], update: Float[Array, "B L D"] | Float[Array, "B 1 D"]) -> Float[Array, "B L D"]:
    """The stream after a stage, in its own dtype; the sum is made in float32."""
    return (x + update).astype(x.dtype)
