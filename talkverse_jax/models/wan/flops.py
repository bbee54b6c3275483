"""The floating-point operations of the trunk, from its sizes alone (see `ops/flops.py`)."""

from talkverse_jax.models.wan.config import WanConfig
from talkverse_jax.ops.flops import attention, linear


def block_layers(config: WanConfig, tokens: int) -> int:
    """The linear layers of a block that all tokens pass."""
    return 6 * linear(tokens, config.dim, config.dim) + linear(tokens, config.dim, config.ffn_dim, config.dim)


def block_flops(config: WanConfig, tokens: int, context: int) -> int:
    """A block, where the keys and values of the context are there."""
    return block_layers(config, tokens) + attention(tokens, tokens, config.dim) + attention(tokens, context, config.dim)


def ends_flops(config: WanConfig, tokens: int) -> int:
    """Of a step but for its blocks: the timestep's vectors, patches in and out of `tokens` noisy tokens."""
    t, r, s = config.patch_size
    time = linear(1, config.freq_dim, config.dim, config.dim, 6 * config.dim)
    patches = linear(tokens, t * r * s * config.in_channels, config.dim)
    return time + patches + linear(tokens, config.dim, t * r * s * config.out_channels)


def context_flops(config: WanConfig, tokens: int, embedded: int) -> int:
    """The keys and values of every block, of a context of `tokens`, of which `embedded` are texts' hidden states."""
    text = linear(embedded, config.text_dim, config.dim, config.dim)
    return text + config.num_layers * 2 * linear(tokens, config.dim, config.dim)
