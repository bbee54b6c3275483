"""Where the tokens of a video stand on the speakers' axis: by what their queries find in the first frame, of which is
known who is where.

Shapes: R rows, C speakers and, last, the background, P tokens of a latent frame, L tokens, N heads, K head width.
"""

from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import Array, Float

from talkverse_jax.ops.attention import Attention


def reference_map(
    attention: Attention,
    queries: Float[Array, "R L N K"],
    keys: Float[Array, "R L N K"],
    places: Float[Array, "R C P"],
) -> Float[Array, "R C L"]:
    """How much each token attends to each class's place in the first frame: the mean over that place and over all
    heads of softmax(queries . keys of the first frame).

    It is an attention whose values are the classes' shares of their places, in as many channels: no kernel keeps the
    scores.

    Args:
      queries, keys: of self-attention, split as it splits them.
      places: 1 where a token of the first frame shows the class, 0 elsewhere.
    """
    shares = places / jnp.maximum(places.sum(axis=-1, keepdims=True), 1)
    first = attention.first_tokens(keys, places.shape[-1])
    classes, width = places.shape[1], first.shape[-1]
    values = jnp.pad(jnp.moveaxis(shares, 1, 2), ((0, 0), (0, 0), (0, width - classes)))
    values = jnp.broadcast_to(values[:, :, None], first.shape).astype(queries.dtype)
    values = attention.layout.constrain(values, "batch", None, "heads", None)
    found = attention.cross_attention(queries, first, values)[..., :classes]
    return jnp.moveaxis(found.astype(jnp.float32).mean(axis=2), -1, 1)


def speaker_positions(
    reference: Float[Array, "R C L"],
    tokens: int,
    ranges: Sequence[tuple[float, float]],
    background: float,
    dtype,
) -> Float[Array, "R L"]:
    """Of each token: the class that it attends to most, and its place in that one's range, from the token that attends
    least to that which attends most.

    Args:
      reference: of `reference_map`.
      tokens: of the L; the others are padding.
      ranges: of the speakers, from .. to.
      dtype: that the original computes this in, as coarse as it is.
    """
    reference = reference.astype(dtype)
    of_speakers, real = reference[:, :-1], jnp.arange(reference.shape[-1]) < tokens
    least = jnp.min(jnp.where(real, of_speakers, jnp.inf), axis=-1, keepdims=True)
    most = jnp.max(jnp.where(real, of_speakers, -jnp.inf), axis=-1, keepdims=True)
    low, high = (jnp.asarray(ends, dtype)[:, None] for ends in zip(*ranges))
    placed = (of_speakers - least) / (most - least + jnp.asarray(1e-8, dtype)) * (high - low) + low
    nowhere = jnp.full_like(reference[:, -1:], background)
    choice = jnp.argmax(reference, axis=1)[:, None]
    return jnp.take_along_axis(jnp.concatenate([placed, nowhere], axis=1), choice, axis=1)[:, 0]
