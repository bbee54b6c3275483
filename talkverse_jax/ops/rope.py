"""Rotary position embedding from explicit positions: over three axes (frame, row, column), or over one.

Shapes: B batch, L tokens, N heads, K head width.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from einops import rearrange
from jaxtyping import Array, Float
from numpy.typing import ArrayLike

THETA = 10_000.0


class RopeTables(NamedTuple):
    """Cosine and sine of each token's angle for each channel pair, float32; those of all samples, or each its own."""

    cos: Float[Array, "*B L K/2"]
    sin: Float[Array, "*B L K/2"]


def axis_widths(head_dim: int) -> tuple[int, int, int]:
    """Channels of a head given to frame, row and column: K - 4*(K//6), 2*(K//6), 2*(K//6)."""
    spatial = 2 * (head_dim // 6)
    return head_dim - 2 * spatial, spatial, spatial


def rope_tables(positions: np.ndarray, head_dim: int) -> RopeTables:
    """Tables for positions [L, 3] (frame, row, column; negative frames rotate the other way).

    Angles are taken in float64 on the host (as the original does) and kept in float32.
    """
    angles = np.concatenate(
        [
            np.outer(positions[:, axis].astype(np.float64), THETA ** (-np.arange(0, width, 2) / width))
            for axis, width in enumerate(axis_widths(head_dim))
        ],
        axis=1,
    )
    return RopeTables(jnp.asarray(np.cos(angles), jnp.float32), jnp.asarray(np.sin(angles), jnp.float32))


def line_tables(positions: Float[Array, "*B L"], head_dim: int) -> RopeTables:
    """Tables for positions on one axis, computed where they are needed; they may be fractions."""
    frequencies = jnp.asarray(THETA ** (-np.arange(0, head_dim, 2) / head_dim), jnp.float32)
    angles = positions.astype(jnp.float32)[..., None] * frequencies
    return RopeTables(jnp.cos(angles), jnp.sin(angles))


def apply_rope(x: Float[Array, "B L N K"], tables: RopeTables) -> Float[Array, "B L N K"]:
    """Rotate the channel pairs (2i, 2i+1) of every head, in float32."""
    pairs = rearrange(x.astype(jnp.float32), "b l n (pair two) -> b l n pair two", two=2)
    real, imaginary = pairs[..., 0], pairs[..., 1]
    cos, sin = tables.cos[..., None, :], tables.sin[..., None, :]
    rotated = jnp.stack([real * cos - imaginary * sin, real * sin + imaginary * cos], axis=-1)
    return rearrange(rotated, "b l n pair two -> b l n (pair two)")


def grid_positions(frames: ArrayLike, rows: ArrayLike, columns: ArrayLike) -> np.ndarray:
    """Positions [L, 3] of a token grid, frame outermost, column innermost."""
    grid = np.meshgrid(frames, rows, columns, indexing="ij")
    return rearrange(np.stack(grid), "three f y x -> (f y x) three")
