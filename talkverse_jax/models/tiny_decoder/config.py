"""Sizes of the tiny decoders of the TAEHV kind: for the latents of Wan2.1 and of Wan2.2."""

import dataclasses
import math
from typing import NamedTuple

from talkverse_jax.core.errors import UserError

_COLOURS = 3


class GrowthSizes(NamedTuple):
    """A level: blocks with a memory, then frames, rows and columns grow.

    Attributes:
      dim, out_dim: channels of the blocks, and of what goes out.
      time: frames that one becomes; rows and columns double.
    """

    dim: int
    out_dim: int
    time: int


@dataclasses.dataclass(frozen=True)
class TinyDecoderConfig:
    """The architecture of a tiny causal decoder.

    Attributes:
      z_dim: latent channels.
      dims: channels of each level, from latents to pixels, and of what the last one gives.
      blocks: of each level, each of which sees the frame before.
      time_growth: frames that each level makes of one.
      pixel_patch: the last layer makes pixels in blocks of so many rows and columns.
    """

    z_dim: int
    dims: tuple[int, ...]
    blocks: int
    time_growth: tuple[int, ...]
    pixel_patch: int

    def __post_init__(self):
        if len(self.dims) != len(self.time_growth) + 1:
            raise UserError(
                f"{len(self.dims)}: each of the {len(self.time_growth)} levels of time_growth has channels, and so "
                f"has what the last one gives; give {len(self.time_growth) + 1}",
                field="dims",
            )

    @property
    def levels(self) -> tuple[GrowthSizes, ...]:
        """From latents to pixels."""
        return tuple(GrowthSizes(*sizes) for sizes in zip(self.dims, self.dims[1:], self.time_growth))

    @property
    def time_stride(self) -> int:
        """Pixel frames a latent frame, after the first, which shows one."""
        return math.prod(self.time_growth)

    @property
    def space_stride(self) -> int:
        """Pixel rows (columns) a latent row (column)."""
        return self.pixel_patch * 2 ** len(self.time_growth)

    @property
    def pixel_channels(self) -> int:
        """Channels of a block of pixels."""
        return _COLOURS * self.pixel_patch**2

    @property
    def reach(self) -> int:
        """Latent frames before its own that a frame shows anything of."""
        rate, seen = 1, 0.0
        for sizes in self.levels:
            seen += self.blocks / rate
            rate *= sizes.time
        return math.ceil(seen)

    @classmethod
    def taew2_1(cls) -> "TinyDecoderConfig":
        """For the latents of Wan2.1."""
        return cls(z_dim=16, dims=(256, 128, 64, 64), blocks=3, time_growth=(1, 2, 2), pixel_patch=1)

    @classmethod
    def taew2_2(cls) -> "TinyDecoderConfig":
        """For the latents of Wan2.2-TI2V-5B."""
        return cls(z_dim=48, dims=(256, 128, 64, 64), blocks=3, time_growth=(1, 2, 2), pixel_patch=2)
