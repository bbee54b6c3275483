"""The floating-point operations of the transformer, from its sizes alone.

Matrix products, convolutions and attention; a multiply-add is two. What a program computes besides (padding, a silent
speaker's masked keys are counted as keys) is its waste.

Shapes: L tokens, P those of a latent frame, D width.
"""

from talkverse_jax.families.multitalk.config import MultiTalkConfig
from talkverse_jax.models.wan.flops import block_flops, block_layers, context_flops, ends_flops
from talkverse_jax.ops.flops import attention, linear


def clip_tokens(config: MultiTalkConfig, frames: int, h: int, w: int) -> tuple[int, int]:
    """Tokens of a clip of `frames` latent frames, and of one of these."""
    _, r, s = config.trunk.patch_size
    frame = (h // r) * (w // s)
    return frames * frame, frame


def step_flops(
    config: MultiTalkConfig, frames: int, h: int, w: int, *, image: int, rows: int = 1, speakers: int = 1
) -> int:
    """One call of the transformer for `rows` (videos by branches of guidance).

    Args:
      image: tokens of a picture.
      speakers: of several each token attends to the first frame to find who it belongs to.
    """
    trunk, dim = config.trunk, config.trunk.dim
    tokens, frame = clip_tokens(config, frames, h, w)
    block = block_flops(trunk, tokens, trunk.text_len + image)
    block += 2 * linear(tokens, dim, dim) + attention(tokens, speakers * config.audio_tokens, dim)
    block += linear(frames * speakers * config.audio_tokens, config.audio_token_dim, 2 * dim)
    if speakers > 1:
        block += attention(tokens, frame, dim)
    return rows * (trunk.num_layers * block + ends_flops(trunk, tokens))


def skipped_step_flops(config: MultiTalkConfig, frames: int, h: int, w: int, *, rows: int = 1) -> int:
    """A step whose blocks are left out (TeaCache)."""
    return rows * ends_flops(config.trunk, clip_tokens(config, frames, h, w)[0])


def prepare_flops(config: MultiTalkConfig, frames: int, *, image: int, rows: int = 1, speakers: int = 1) -> int:
    """What a clip's steps share: keys and values of text and picture, the speakers' audio tokens."""
    trunk, dim, width = config.trunk, config.trunk.dim, config.audio_layers * config.audio_dim
    context = context_flops(trunk, trunk.text_len + image, trunk.text_len)
    picture = linear(image, config.image_dim, config.image_dim, dim)
    hidden, tokens = config.audio_hidden, config.audio_tokens * config.audio_token_dim
    sound = linear(1, config.audio_window * width, hidden) + linear(frames - 1, config.group_window * width, hidden)
    sound += linear(frames, hidden, hidden, tokens)
    return rows * (context + picture + speakers * sound)


def training_flops(
    config: MultiTalkConfig, frames: int, h: int, w: int, *, image: int, speakers: int, trained_blocks: int
) -> int:
    """Forward and backward of one sample.

    Going back costs as much as going forward for the gradient of a layer's input, and again for that of its weights, if
    they are trained: three times the forward in all, or two. The layers of the trunk's blocks are reckoned apart;
    everything else is taken as trained, adapters and what is computed again are left out.

    Args:
      trained_blocks: whose weights are trained.
    """
    forward = step_flops(config, frames, h, w, image=image, speakers=speakers)
    forward += prepare_flops(config, frames, image=image, speakers=speakers)
    tokens, _ = clip_tokens(config, frames, h, w)
    return 3 * forward - (config.trunk.num_layers - trained_blocks) * block_layers(config.trunk, tokens)
