"""Sizes of CLIP's visual tower."""

import dataclasses
from typing import Any

from talkverse_jax.core.config import from_dict
from talkverse_jax.core.errors import UserError

MLP_RATIO = 4


@dataclasses.dataclass(frozen=True)
class ClipVisionConfig:
    """The tower's architecture; field names are upstream's.

    Attributes:
      dim: width of the residual stream and of the output.
      num_heads: attention heads a block.
      num_layers: blocks that are published; the last one is not computed.
      image_size: rows and columns that a picture is resized to.
      patch_size: rows and columns of a patch.
      norm_eps: of all layer norms.
    """

    dim: int
    num_heads: int
    num_layers: int
    image_size: int
    patch_size: int
    norm_eps: float

    @property
    def patches(self) -> int:
        """Patches of a picture."""
        return (self.image_size // self.patch_size) ** 2

    @property
    def tokens(self) -> int:
        """Rows of the output: the class token and the patches."""
        return 1 + self.patches

    @property
    def computed_layers(self) -> int:
        """Blocks that are computed."""
        return self.num_layers - 1

    @classmethod
    def vit_h14(cls) -> "ClipVisionConfig":
        """The visual tower of open-CLIP's XLM-RoBERTa ViT-H/14."""
        return cls(dim=1280, num_heads=16, num_layers=32, image_size=224, patch_size=14, norm_eps=1e-5)

    @classmethod
    def from_upstream(cls, values: dict[str, Any], where: str) -> "ClipVisionConfig":
        """From the arguments of upstream's tower, as a reference bundle holds them.

        Raises:
          UserError: a key is unknown or missing, or the activation is not the exact GELU.
        """
        values = {name: value for name, value in values.items() if name != "output"}
        if (activation := values.pop("activation", "gelu")) != "gelu":
            raise UserError(f"{where}: activation is {activation}; the tower of ViT-H/14 has gelu")
        return from_dict(cls, values, where)
