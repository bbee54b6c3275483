"""The floating-point operations of CLIP's visual tower, from its sizes alone (see `ops/flops.py`)."""

from talkverse_jax.models.clip.config import MLP_RATIO, ClipVisionConfig
from talkverse_jax.ops.flops import attention, linear


def clip_flops(config: ClipVisionConfig, pictures: int, height: int, width: int) -> int:
    """Pictures of `height` x `width` pixels, the products that resize them included."""
    tokens, dim, side = config.tokens, config.dim, config.image_size
    block = 4 * linear(tokens, dim, dim) + attention(tokens, tokens, dim) + linear(tokens, dim, MLP_RATIO * dim, dim)
    resize = linear(3 * width, height, side) + linear(3 * side, width, side)
    embedding = linear(config.patches, 3 * config.patch_size**2, dim)
    return pictures * (resize + embedding + config.computed_layers * block)
