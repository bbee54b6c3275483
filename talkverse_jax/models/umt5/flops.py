"""The floating-point operations of the text encoder, from its sizes alone (see `ops/flops.py`)."""

from talkverse_jax.models.umt5.config import UMT5Config
from talkverse_jax.ops.flops import attention, linear


def text_flops(config: UMT5Config, prompts: int, tokens: int) -> int:
    """Prompts of so many tokens."""
    layer = (
        4 * linear(tokens, config.dim, config.dim_attn)
        + attention(tokens, tokens, config.dim_attn)
        + 3 * linear(tokens, config.dim, config.dim_ffn)
    )
    return prompts * config.num_layers * layer
