"""The floating-point operations of wav2vec2, from its sizes alone (see `ops/flops.py`)."""

from talkverse_jax.models.wav2vec2.config import Wav2Vec2Config
from talkverse_jax.ops.flops import attention, linear


def audio_flops(config: Wav2Vec2Config, samples: int, rows: int | None = None) -> int:
    """A sound of so many samples.

    Args:
      rows: vectors that the transformer hears; by default as many as the convolutions give.
    """
    total, length, channels = 0, samples, 1
    for i, (out, kernel, stride) in enumerate(zip(config.conv_dim, config.conv_kernel, config.conv_stride)):
        length = (length - kernel) // stride + 1
        twice = i == 0 and config.feat_extract_norm == "group"  # its moments first
        total += (1 + twice) * linear(length, kernel * channels, out)
        channels = out
    length = length if rows is None else rows
    dim, taps, groups = config.hidden_size, config.num_conv_pos_embeddings, config.num_conv_pos_embedding_groups
    before, after = taps // 2, taps - 1 - taps // 2
    pairs = sum(min(length, t + after + 1) - max(0, t - before) for t in range(length))
    layer = (
        4 * linear(length, dim, dim)
        + attention(length, length, dim)
        + linear(length, dim, config.intermediate_size, dim)
    )
    return total + linear(length, channels, dim) + 2 * pairs * dim * (dim // groups) + config.num_hidden_layers * layer
