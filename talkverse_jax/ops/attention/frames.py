"""Attention of a video's tokens to what belongs to their own frame, and to the first frame: around any mesh.

Shapes: B batch, L tokens, l tokens of a device, F frames, P tokens of a frame, S keys of a frame, N heads, K head
width.
"""

import jax
import jax.numpy as jnp
from einops import rearrange
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from talkverse_jax.ops.attention.xla import in_query_blocks


def own_frame_attention(
    q: Float[Array, "B l N K"],
    k: Float[Array, "B F S N K"],
    v: Float[Array, "B F S N K"],
    seen: Bool[Array, "B S"] | None,
    start: Int[Array, ""] | int,
    frame: int,
) -> Float[Array, "B l N K"]:
    """Softmax attention of tokens, frame by frame, to the keys of their own frame alone.

    The tokens are laid out by frames, so that a key costs nothing to those of other frames: of 21 frames of 32 keys,
    a mask over all would cost 21 times as much. A device's tokens may begin and end within a frame.

    Args:
      seen: the keys that a sample has; all where None.
      start: the number of the first token.
      frame: P; tokens behind the last frame are padding, whose rows are finite.
    """
    length = q.shape[1]
    whole = isinstance(start, int) and start == 0
    frames, before = -(-length // frame) + (not whole), start % frame
    rows = jnp.pad(q, ((0, 0), (0, frames * frame - length), (0, 0), (0, 0)))
    if not whole:
        rows = jnp.roll(rows, before, axis=1)
    numbers = jnp.clip(start // frame + jnp.arange(frames), 0, k.shape[1] - 1)
    k, v = (rearrange(jnp.take(x, numbers, axis=1), "b f s n k -> (b f) s n k") for x in (k, v))
    mask = None if seen is None else jnp.repeat(seen, frames, axis=0)[:, None, None, :]

    def block(q: Float[Array, "b p N K"]) -> Float[Array, "b p N K"]:
        return jax.nn.dot_product_attention(q, k, v, mask=mask, implementation="xla")

    rows = rearrange(rows, "b (f p) n k -> (b f) p n k", p=frame)
    out = in_query_blocks(block, rows, k.shape[1])
    out = rearrange(out, "(b f) p n k -> b (f p) n k", f=frames)
    if not whole:
        out = jnp.roll(out, -before, axis=1)
    return out[:, :length]


def first_of_all(x: Float[Array, "B l N K"], start: Int[Array, ""] | int, count: int, axes: tuple[str, ...]):
    """The first `count` tokens of a sequence that the devices of mesh axes share, on all of them. Runs within
    shard_map; each device gives those that it has."""
    place = jnp.arange(count) - start
    has = (place >= 0) & (place < x.shape[1])
    own = jnp.take(x, jnp.clip(place, 0, x.shape[1] - 1), axis=1)
    return lax.psum(jnp.where(has[:, None, None], own, 0), axes)
