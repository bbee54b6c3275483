"""Sizes of the Wan video autoencoders."""

import dataclasses

# Mean and standard deviation of each latent channel of the published Wan2.2 VAE: the diffusion model works on
# (latent - mean) / std.
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


@dataclasses.dataclass(frozen=True)
class VAEConfig:
    """The architecture of a causal video autoencoder of the Wan2.2 kind.

    Attributes:
      dim, dec_dim: channels of the encoder's first and the decoder's last level.
      z_dim: latent channels.
      dim_mult: channels of each level, as multiples of `dim` or `dec_dim`, from pixels to latents.
      num_res_blocks: residual blocks an encoder level; a decoder level has one more.
      temporal_downsample: whether an encoder level halves the frames too; one entry for every level but the
        last (each of those halves rows and columns). The decoder mirrors it.
      latent_mean, latent_std: of each latent channel.
    """

    dim: int
    dec_dim: int
    z_dim: int
    dim_mult: tuple[int, ...]
    num_res_blocks: int
    temporal_downsample: tuple[bool, ...]
    latent_mean: tuple[float, ...]
    latent_std: tuple[float, ...]

    @property
    def time_stride(self) -> int:
        """Pixel frames a latent frame, after the first, which shows one."""
        return 2 ** sum(self.temporal_downsample)

    @property
    def space_stride(self) -> int:
        """Pixel rows (columns) a latent row (column)."""
        return 2 ** len(self.dim_mult)

    def latent_frames(self, frames: int) -> int:
        """Latent frames of a video of `frames` frames; what does not fill a latent frame is dropped."""
        return 1 + (frames - 1) // self.time_stride

    def pixel_frames(self, latent_frames: int) -> int:
        """Frames that `latent_frames` from the start of a video show (0 for none)."""
        return max(0, self.time_stride * (latent_frames - 1) + 1)

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
