"""Sizes of the UMT5 text encoder."""

import dataclasses
from typing import Any

from talkverse_jax.core.config import from_dict
from talkverse_jax.core.errors import UserError


@dataclasses.dataclass(frozen=True)
class UMT5Config:
    """The encoder's architecture; field names are upstream's.

    Attributes:
      vocab: number of token ids.
      dim: width of the residual stream and of the output.
      dim_attn: width of all heads together.
      dim_ffn: hidden width of the feed-forward layers.
      num_heads, num_layers: attention heads a block, blocks.
      num_buckets: relative positions told apart, half of them to the left and half to the right.
      max_distance: from here on all distances share the last bucket.
    """

    vocab: int
    dim: int
    dim_attn: int
    dim_ffn: int
    num_heads: int
    num_layers: int
    num_buckets: int
    max_distance: int

    @classmethod
    def xxl(cls) -> "UMT5Config":
        """The encoder of google/umt5-xxl."""
        return cls(
            vocab=256384,
            dim=4096,
            dim_attn=4096,
            dim_ffn=10240,
            num_heads=64,
            num_layers=24,
            num_buckets=32,
            max_distance=128,
        )

    @classmethod
    def from_upstream(cls, values: dict[str, Any], where: str) -> "UMT5Config":
        """From the arguments of upstream's encoder, as a reference bundle holds them.

        Raises:
          UserError: a key is unknown or missing, or the layers share one position table.
        """
        values = {"max_distance": 128, **values}
        if values.pop("shared_pos", False):
            raise UserError(f"{where}: shared_pos is true (T5); UMT5 has one position table a layer")
        return from_dict(cls, values, where)
