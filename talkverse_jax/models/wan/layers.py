"""What the parts of a block share: the way from the residual stream into a stage and back.

Shapes: B batch, L tokens, D width.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from talkverse_jax.sharding.layout import Layout


def enter(layout: Layout, x: Float[Array, "B L D"], dtype) -> Float[Array, "B L D"]:
    """From the residual stream into a stage: where `tensor` devices share the stream, it is gathered in the
    layers' own dtype."""
    return layout.constrain(x.astype(dtype), "batch", "tokens", None)


def leave(layout: Layout, update: Float[Array, "B L D"]) -> Float[Array, "B L D"]:
    """From a stage back to the stream: `tensor` devices' parts of the sum are added and shared out again."""
    return layout.constrain(update, "batch", "stream", None).astype(jnp.float32)
