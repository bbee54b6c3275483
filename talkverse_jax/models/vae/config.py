"""Sizes of the Wan video autoencoders: of Wan2.1 (8x8 pixels a latent) and of Wan2.2 (16x16)."""

import dataclasses
import itertools
from typing import NamedTuple

_COLOURS = 3

# Mean and standard deviation of each latent channel of the published VAEs: the diffusion model works on
# (latent - mean) / std.
WAN21_LATENT_MEAN = (-0.7571, -0.7089, -0.9113, 0.1075, -0.1745, 0.9653, -0.1517, 1.5508) + (
    0.4134,
    -0.0715,
    0.5517,
    -0.3632,
    -0.1922,
    -0.9497,
    0.2503,
    -0.2921,
)
WAN21_LATENT_STD = (2.8184, 1.4541, 2.3275, 2.6558, 1.2196, 1.7708, 2.6052, 2.0743) + (
    3.2687,
    2.1526,
    2.8652,
    1.5579,
    1.6382,
    1.1253,
    2.8251,
    1.9160,
)
WAN22_LATENT_MEAN = (
    (-0.2289, -0.0052, -0.1323, -0.2339, -0.2799, 0.0174, 0.1838, 0.1557, -0.1382, 0.0542, 0.2813, 0.0891)
    + (0.1570, -0.0098, 0.0375, -0.1825, -0.2246, -0.1207, -0.0698, 0.5109, 0.2665, -0.2108, -0.2158, 0.2502)
    + (-0.2055, -0.0322, 0.1109, 0.1567, -0.0729, 0.0899, -0.2799, -0.1230, -0.0313, -0.1649, 0.0117, 0.0723)
    + (-0.2839, -0.2083, -0.0520, 0.3748, 0.0152, 0.1957, 0.1433, -0.2944, 0.3573, -0.0548, -0.1681, -0.0667)
)
WAN22_LATENT_STD = (
    (0.4765, 1.0364, 0.4514, 1.1677, 0.5313, 0.4990, 0.4818, 0.5013, 0.8158, 1.0344, 0.5894, 1.0901)
    + (0.6885, 0.6165, 0.8454, 0.4978, 0.5759, 0.3523, 0.7135, 0.6804, 0.5833, 1.4146, 0.8986, 0.5659)
    + (0.7069, 0.5338, 0.4889, 0.4917, 0.4069, 0.4999, 0.6866, 0.4093, 0.5709, 0.6065, 0.6415, 0.4944)
    + (0.5726, 1.2042, 0.5458, 1.6887, 0.3971, 1.0600, 0.3943, 0.5537, 0.5444, 0.4089, 0.7468, 0.7744)
)


class Strides(NamedTuple):
    """What a latent stands for.

    Attributes:
      time: pixel frames a latent frame, after the first, which shows one.
      space: pixel rows (columns) a latent row (column).
    """

    time: int
    space: int


class LevelSizes(NamedTuple):
    """A level of an encoder or a decoder: residual blocks and, but for the last level, a resampling.

    Attributes:
      in_dim, dim, out_dim: channels of what comes in, of what the blocks make, and of what goes out.
      blocks: residual blocks.
      time, space: frames, and rows and columns, that become one in the encoder, or that one becomes in the
        decoder: 2 or 1.
    """

    in_dim: int
    dim: int
    out_dim: int
    blocks: int
    time: int
    space: int


@dataclasses.dataclass(frozen=True)
class VAEConfig:
    """The architecture of a causal video autoencoder.

    Attributes:
      dim, dec_dim: channels of the encoder's first and the decoder's last level.
      z_dim: latent channels.
      dim_mult: channels of each level, as multiples of `dim` or `dec_dim`, from pixels to latents.
      num_res_blocks: residual blocks an encoder level; a decoder level has one more.
      temporal_downsample: whether an encoder level halves the frames too; one entry for every level but the
        last (each of those halves rows and columns). The decoder mirrors it.
      latent_mean, latent_std: of each latent channel.
      pixel_patch: the encoder sees pixels in blocks of so many rows and columns, as channels (1: each alone).
      shortcuts: a level has a parameter-free shortcut around it. Without them, the decoder halves the channels
        as it doubles rows and columns.
    """

    dim: int
    dec_dim: int
    z_dim: int
    dim_mult: tuple[int, ...]
    num_res_blocks: int
    temporal_downsample: tuple[bool, ...]
    latent_mean: tuple[float, ...]
    latent_std: tuple[float, ...]
    pixel_patch: int = 2
    shortcuts: bool = True

    @property
    def strides(self) -> Strides:
        """What a latent stands for."""
        return Strides(self.time_stride, self.space_stride)

    @property
    def time_stride(self) -> int:
        """Pixel frames a latent frame, after the first, which shows one."""
        return 2 ** sum(self.temporal_downsample)

    @property
    def space_stride(self) -> int:
        """Pixel rows (columns) a latent row (column)."""
        return self.pixel_patch * 2 ** len(self.temporal_downsample)

    @property
    def pixel_channels(self) -> int:
        """Channels of a block of pixels."""
        return _COLOURS * self.pixel_patch**2

    @property
    def encoder_levels(self) -> tuple[LevelSizes, ...]:
        """From pixels to latents."""
        dims = [self.dim * multiple for multiple in (1, *self.dim_mult)]
        return tuple(
            LevelSizes(in_dim, dim, dim, self.num_res_blocks, time, space)
            for (in_dim, dim), (time, space) in zip(
                itertools.pairwise(dims), _resampling(self.temporal_downsample), strict=True
            )
        )

    @property
    def decoder_levels(self) -> tuple[LevelSizes, ...]:
        """From latents to pixels."""
        dims = [self.dec_dim * multiple for multiple in reversed(self.dim_mult)]
        levels, in_dim = [], dims[0]
        for dim, (time, space) in zip(dims, _resampling(self.temporal_downsample[::-1]), strict=True):
            out_dim = dim if self.shortcuts else dim // space
            levels.append(LevelSizes(in_dim, dim, out_dim, self.num_res_blocks + 1, time, space))
            in_dim = out_dim
        return tuple(levels)

    def latent_frames(self, frames: int) -> int:
        """Latent frames of a video of `frames` frames; what does not fill a latent frame is dropped."""
        return 1 + (frames - 1) // self.time_stride

    def pixel_frames(self, latent_frames: int) -> int:
        """Frames that `latent_frames` from the start of a video show (0 for none)."""
        return max(0, self.time_stride * (latent_frames - 1) + 1)

    @classmethod
    def wan21(cls) -> "VAEConfig":
        """The VAE of Wan2.1."""
        return cls(
            dim=96,
            dec_dim=96,
            z_dim=16,
            dim_mult=(1, 2, 4, 4),
            num_res_blocks=2,
            temporal_downsample=(False, True, True),
            latent_mean=WAN21_LATENT_MEAN,
            latent_std=WAN21_LATENT_STD,
            pixel_patch=1,
            shortcuts=False,
        )

    @classmethod
    def wan22(cls) -> "VAEConfig":
        """The VAE of Wan2.2-TI2V-5B."""
        return cls(
            dim=160,
            dec_dim=256,
            z_dim=48,
            dim_mult=(1, 2, 4, 4),
            num_res_blocks=2,
            temporal_downsample=(False, True, True),
            latent_mean=WAN22_LATENT_MEAN,
            latent_std=WAN22_LATENT_STD,
        )


def _resampling(halved: tuple[bool, ...]) -> list[tuple[int, int]]:
    """By level, how many frames, and how many rows and columns, become one or are made of one."""
    return [(1 + time, 2) for time in halved] + [(1, 1)]
