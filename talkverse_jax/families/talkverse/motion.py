"""FramePack: the last 19 latent frames packed into few tokens, the farther back the coarser.

Shapes: B batch, h w latent grid, C latent channels, D width, M motion tokens.
"""

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from talkverse_jax.models.wan.config import WanConfig
from talkverse_jax.models.wan.embeddings import PatchEmbedding
from talkverse_jax.ops.rope import grid_positions

# (latent frames, patch), newest first
BUCKETS = ((1, (1, 2, 2)), (2, (2, 4, 4)), (16, (4, 8, 8)))
MOTION_LATENT_FRAMES = sum(frames for frames, _ in BUCKETS)


class FramePacker(nnx.Module):
    """Three patch embeddings: the newest frame finely, the two before it, the sixteen before those."""

    def __init__(self, config: WanConfig, *, rngs: nnx.Rngs, dtype, param_dtype):
        self.embeddings = nnx.List(
            [
                PatchEmbedding(patch, config.in_channels, config.dim, rngs=rngs, dtype=dtype, param_dtype=param_dtype)
                for _, patch in BUCKETS
            ]
        )

    def __call__(self, motion: Float[Array, "B F h w C"]) -> Float[Array, "B M D"]:
        """Tokens of the newest frame, then of the pair, then of the sixteen oldest; zeros stand in for frames
        before the first."""
        missing = max(0, MOTION_LATENT_FRAMES - motion.shape[1])
        motion = jnp.pad(motion, ((0, 0), (missing, 0), (0, 0), (0, 0), (0, 0)))[:, -MOTION_LATENT_FRAMES:]
        tokens, end = [], MOTION_LATENT_FRAMES
        for (frames, _), embedding in zip(BUCKETS, self.embeddings):
            tokens.append(embedding(motion[:, end - frames : end]))
            end -= frames
        return jnp.concatenate(tokens, axis=1)


def motion_positions(size: tuple[int, ...], patch: tuple[int, int, int]) -> np.ndarray:
    """Positions [M, 3] of the motion tokens over a latent grid of h x w, given the patch of noisy tokens.

    Frames count backwards from the first noisy one; a bucket's first group stands at its oldest frame, the
    others evenly between it and the next bucket. Rows and columns spread over the grid of noisy tokens.
    """
    (height, width), (_, row, column) = size, patch
    grids, newer = [], 0
    for frames, (t, r, s) in BUCKETS:
        oldest = newer + frames
        grids.append(
            grid_positions(
                -np.trunc(np.linspace(oldest, newer + 1, frames // t)),
                np.trunc(np.linspace(0, height // row - 1, height // r)),
                np.trunc(np.linspace(0, width // column - 1, width // s)),
            )
        )
        newer = oldest
    return np.concatenate(grids)
