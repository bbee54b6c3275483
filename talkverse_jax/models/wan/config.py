"""Sizes of the Wan diffusion transformer trunk."""

import dataclasses

WIDTHS = {1536: "Wan2.1-1.3B", 3072: "Wan2.2-5B", 5120: "Wan2.1-14B"}  # of the published models


@dataclasses.dataclass(frozen=True)
class WanConfig:
    """The trunk's architecture.

    Attributes:
      dim: model width D.
      ffn_dim: hidden width of the feed-forward layers.
      freq_dim: width of the timestep sinusoid.
      text_dim, text_len: width and (padded) number of the text hidden states.
      num_heads, num_layers: attention heads a block, blocks.
      in_channels, out_channels: latent channels in and out.
      patch_size: frames, rows and columns of a token.
      eps: of every norm in the trunk.
    """

    dim: int
    ffn_dim: int
    freq_dim: int
    text_dim: int
    text_len: int
    num_heads: int
    num_layers: int
    in_channels: int
    out_channels: int
    patch_size: tuple[int, int, int]
    eps: float

    @property
    def head_dim(self) -> int:
        return self.dim // self.num_heads

    @classmethod
    def i2v_14b(cls) -> "WanConfig":
        """Wan2.1-I2V-14B."""
        return cls(
            dim=5120,
            ffn_dim=13824,
            freq_dim=256,
            text_dim=4096,
            text_len=512,
            num_heads=40,
            num_layers=40,
            in_channels=36,
            out_channels=16,
            patch_size=(1, 2, 2),
            eps=1e-6,
        )

    @classmethod
    def ti2v_5b(cls) -> "WanConfig":
        """Wan2.2-TI2V-5B."""
        return cls(
            dim=3072,
            ffn_dim=14336,
            freq_dim=256,
            text_dim=4096,
            text_len=512,
            num_heads=24,
            num_layers=30,
            in_channels=48,
            out_channels=48,
            patch_size=(1, 2, 2),
            eps=1e-6,
        )
