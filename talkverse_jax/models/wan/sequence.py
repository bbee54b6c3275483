"""A sequence of tokens that is cut evenly over devices: padding behind it, and each device's own rows of what is whole.

Shapes: B batch, N rows, L tokens with padding, D width.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from talkverse_jax.ops.rope import RopeTables
from talkverse_jax.sharding.layout import Layout


def padded(tokens: int, layout: Layout) -> int:
    """The length of a sequence of `tokens` that divides evenly among the devices."""
    parts = layout.parts("stream")
    return -(-tokens // parts) * parts


def places(tokens: int, layout: Layout) -> Int[Array, " L"]:
    """The number of each token of a padded sequence, split as it is."""
    return layout.constrain(jnp.arange(padded(tokens, layout)), "tokens")


def pick_rows(x: Float[Array, "B N D"], index: Int[Array, " L"]) -> Float[Array, "B L D"]:
    """Row `index` of each; the nearest one where there is none."""
    return jnp.take(x, jnp.clip(index, 0, x.shape[1] - 1), axis=1)


def padded_rope(tables: RopeTables, layout: Layout) -> RopeTables:
    """Tables as long as the padded sequence, split as it is."""
    rest = padded(len(tables.cos), layout) - len(tables.cos)
    return RopeTables(*(layout.constrain(jnp.pad(t, ((0, rest), (0, 0))), "tokens", None) for t in tables))
