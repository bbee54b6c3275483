"""The sequence of tokens: noisy ones, at the step's timestep, then clean ones (reference, motion), at timestep 0, then
padding where it is split over devices that do not divide it.

Every device picks its own tokens out of what is small and whole on all of them.

Shapes: B batch, S noisy tokens, M clean tokens, L all with padding, D width.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from talkverse_jax.models.wan.modulation import BlockModulation
from talkverse_jax.models.wan.sequence import pick_rows, places
from talkverse_jax.sharding.layout import Layout


class TokenSequence(NamedTuple):
    """Which token is what.

    Attributes:
      noisy, tokens: how many are noisy, and how many there are.
      place: of each in the sequence.
      clean: whether it is.
      frame: of a noisy one, its latent frame; else 0.
    """

    noisy: int
    tokens: int
    place: Int[Array, " L"]
    clean: Bool[Array, " L"]
    frame: Int[Array, " L"]

    @classmethod
    def make(cls, grid: tuple[int, int, int], clean: int, layout: Layout) -> "TokenSequence":
        """Of noisy tokens in a grid of frames, rows and columns, and `clean` others."""
        frames, rows, columns = grid
        noisy = frames * rows * columns
        place = places(noisy + clean, layout)
        frame = jnp.where(place < noisy, place // (rows * columns), 0)
        return cls(noisy, noisy + clean, place, place >= noisy, frame)

    def noisy_rows(self, rows: Float[Array, "B S N"]) -> Float[Array, "B L N"]:
        """A row for each noisy token; some other one for those behind them."""
        return pick_rows(rows, self.place)

    def clean_rows(self, rows: Float[Array, "B M N"]) -> Float[Array, "B L N"]:
        """A row for each clean token; some other one for those around them."""
        return pick_rows(rows, self.place - self.noisy)

    def by_kind(self, noisy: Float[Array, "..."], clean: Float[Array, "..."] | float) -> Float[Array, "B L N"]:
        """Each token's own of two values, which broadcast to [B, L, N]."""
        return jnp.where(self.clean[:, None], clean, noisy)

    def modulation(self, vectors: BlockModulation) -> BlockModulation:
        """With each token's own of two vectors [B, 2, D] (noisy, clean)."""
        return vectors._replace(segment=self.clean.astype(jnp.int32))
