"""The floating-point operations of the models themselves, from their sizes alone.

Matrix products, convolutions and attention; a multiply-add is two. What a program computes besides (padding,
borders computed twice, tokens no result needs) is its waste.

Shapes: L tokens, S noisy tokens, D width, T rows or frames, F latent frames, H W pixels, h w latent grid.
"""

from talkverse_jax.families.talkverse.config import TalkVerseConfig
from talkverse_jax.families.talkverse.motion import BUCKETS
from talkverse_jax.models.wan.flops import block_flops, block_layers, context_flops, ends_flops
from talkverse_jax.ops.flops import attention, linear


def motion_tokens(h: int, w: int) -> list[tuple[int, int]]:
    """Of each bucket of the motion context over a latent grid: tokens, and latent values in each of them."""
    return [(frames // t * (h // r) * (w // s), t * r * s) for frames, (t, r, s) in BUCKETS]


def clip_tokens(config: TalkVerseConfig, frames: int, h: int, w: int, motion: bool) -> tuple[int, int]:
    """Noisy tokens and all tokens of a clip of `frames` latent frames."""
    _, r, s = config.trunk.patch_size
    frame = (h // r) * (w // s)
    clean = frame + (sum(tokens for tokens, _ in motion_tokens(h, w)) if motion else 0)
    return frames * frame, frames * frame + clean


def step_flops(config: TalkVerseConfig, frames: int, h: int, w: int, *, motion: bool, branches: int) -> int:
    """One call of the transformer for `branches` (two with guidance) of a clip."""
    trunk = config.trunk
    noisy, tokens = clip_tokens(config, frames, h, w, motion)
    dim, block = trunk.dim, block_flops(trunk, tokens, trunk.text_len)
    injection = 2 * linear(noisy, dim, dim) + attention(noisy, config.audio_tokens + 1, dim)
    injections = len(config.audio_inject_layers) * injection
    return branches * (ends_flops(trunk, noisy) + trunk.num_layers * block + injections)


def training_flops(config: TalkVerseConfig, frames: int, h: int, w: int, *, trained_blocks: int) -> int:
    """Forward and backward of one sample, whose motion tokens are always there.

    Going back costs as much as going forward for the gradient of a layer's input, and again for that of its
    weights, if they are trained: three times the forward in all, or two. Blocks are reckoned apart; everything else
    is taken as trained, adapters (8% of a layer at rank 128) and what is computed again are left out.

    Args:
      trained_blocks: whose weights are trained.
    """
    forward = step_flops(config, frames, h, w, motion=True, branches=1) + prepare_flops(
        config, frames, h, w, motion=True, branches=1
    )
    tokens = clip_tokens(config, frames, h, w, motion=True)[1]
    return 3 * forward - (config.trunk.num_layers - trained_blocks) * block_layers(config.trunk, tokens)


def prepare_flops(config: TalkVerseConfig, frames: int, h: int, w: int, *, motion: bool, branches: int) -> int:
    """What a clip's steps share: text and audio keys and values, reference and motion tokens."""
    trunk, dim, audio = config.trunk, config.trunk.dim, config.audio_dim
    text = context_flops(trunk, trunk.text_len, trunk.text_len)
    rows = config.motion_frames + 4 * frames
    half, quarter = (rows + 1) // 2, (rows + 3) // 4
    streams = config.audio_tokens + 1
    sound = (
        2 * rows * config.audio_layers * audio
        + streams * linear(rows, 3 * audio, dim // 4)
        + streams * linear(half, 3 * (dim // 4), dim // 2)
        + streams * linear(quarter, 3 * (dim // 2), dim)
        + linear(quarter, dim, dim)
    )
    injection = linear(frames, dim, 2 * dim) + 2 * linear(frames * streams, dim, dim)
    _, r, s = trunk.patch_size
    clean = linear((h // r) * (w // s), r * s * trunk.in_channels, dim)
    if motion:
        clean += sum(linear(n, values * trunk.in_channels, dim) for n, values in motion_tokens(h, w))
    return branches * (text + sound + len(config.audio_inject_layers) * injection + clean)
