"""The floating-point operations of the models themselves, from their sizes alone.

Matrix products, convolutions and attention; a multiply-add is two. What a program computes besides (padding,
borders computed twice, tokens no result needs) is its waste. Convolutions count the products with pixels, not those
with the zeros around them.

Shapes: L tokens, S noisy tokens, D width, T rows or frames, F latent frames, H W pixels, h w latent grid.
"""

from talkverse_jax.families.talkverse.config import TalkVerseConfig
from talkverse_jax.families.talkverse.motion import BUCKETS
from talkverse_jax.models.vae.coders import PIXEL_CHANNELS
from talkverse_jax.models.vae.config import VAEConfig
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
    dim, patch = trunk.dim, trunk.patch_size[0] * trunk.patch_size[1] * trunk.patch_size[2]
    time = linear(1, trunk.freq_dim, dim, dim, 6 * dim)
    block = _block_layers(config, tokens) + attention(tokens, tokens, dim) + attention(tokens, trunk.text_len, dim)
    injection = 2 * linear(noisy, dim, dim) + attention(noisy, config.audio_tokens + 1, dim)
    ends = linear(noisy, patch * trunk.in_channels, dim) + linear(noisy, dim, patch * trunk.out_channels)
    return branches * (time + ends + trunk.num_layers * block + len(config.audio_inject_layers) * injection)


def _block_layers(config: TalkVerseConfig, tokens: int) -> int:
    """The linear layers of a block that all tokens pass."""
    dim = config.trunk.dim
    return 6 * linear(tokens, dim, dim) + linear(tokens, dim, config.trunk.ffn_dim, dim)


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
    return 3 * forward - (config.trunk.num_layers - trained_blocks) * _block_layers(config, tokens)


def prepare_flops(config: TalkVerseConfig, frames: int, h: int, w: int, *, motion: bool, branches: int) -> int:
    """What a clip's steps share: text and audio keys and values, reference and motion tokens."""
    trunk, dim, audio = config.trunk, config.trunk.dim, config.audio_dim
    text = linear(trunk.text_len, trunk.text_dim, dim, dim) + trunk.num_layers * 2 * linear(trunk.text_len, dim, dim)
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


def _conv(frames: int, h: int, w: int, in_dim: int, out_dim: int, taps: int, size: int = 3) -> int:
    """A convolution of `taps` frames by `size` x `size` pixels that keeps rows and columns."""
    edge = size // 2 * (size // 2 + 1)  # products of an axis that meet zeros
    return 2 * frames * taps * (size * h - edge) * (size * w - edge) * in_dim * out_dim


def _residual(frames: int, h: int, w: int, in_dim: int, out_dim: int, taps: int) -> int:
    shortcut = linear(frames * h * w, in_dim, out_dim) if in_dim != out_dim else 0
    return _conv(frames, h, w, in_dim, out_dim, taps) + _conv(frames, h, w, out_dim, out_dim, taps) + shortcut


def _middle(frames: int, h: int, w: int, dim: int, taps: int) -> int:
    attend = frames * (linear(h * w, dim, 4 * dim) + attention(h * w, h * w, dim))
    return 2 * _residual(frames, h, w, dim, dim, taps) + attend


def _encode_chunk(config: VAEConfig, height: int, width: int, first: bool) -> int:
    """One latent frame's worth of pixels; the first frame of a video meets one tap in time of three."""
    t, h, w, taps = (1 if first else config.time_stride), height // 2, width // 2, (1 if first else 3)
    dims = [config.dim * multiple for multiple in (1, *config.dim_mult)]
    total = _conv(t, h, w, PIXEL_CHANNELS, dims[0], taps)
    for level, (in_dim, out_dim) in enumerate(zip(dims, dims[1:])):
        for block in range(config.num_res_blocks):
            total += _residual(t, h, w, out_dim if block else in_dim, out_dim, taps)
        if level < len(config.temporal_downsample):
            h, w = h // 2, w // 2
            total += 2 * t * (3 * h - 1) * (3 * w - 1) * out_dim**2  # zeros on one side only
            if config.temporal_downsample[level] and not first:
                t //= 2
                total += _conv(t, h, w, out_dim, out_dim, 3, size=1)
    total += _middle(t, h, w, dims[-1], taps) + _conv(t, h, w, dims[-1], 2 * config.z_dim, taps)
    return total + linear(t * h * w, 2 * config.z_dim, config.z_dim)


def _decode_chunk(config: VAEConfig, h: int, w: int, first: bool) -> int:
    """One latent frame."""
    t, taps = 1, 1 if first else 3
    dims = [config.dec_dim * multiple for multiple in (config.dim_mult[-1], *reversed(config.dim_mult))]
    times = list(reversed(config.temporal_downsample))
    total = linear(h * w, config.z_dim, config.z_dim) + _conv(t, h, w, config.z_dim, dims[0], taps)
    total += _middle(t, h, w, dims[0], taps)
    for level, (in_dim, out_dim) in enumerate(zip(dims, dims[1:])):
        for block in range(config.num_res_blocks + 1):
            total += _residual(t, h, w, out_dim if block else in_dim, out_dim, taps)
        if level < len(times):
            if times[level] and not first:
                total += _conv(t, h, w, out_dim, 2 * out_dim, 3, size=1)
                t *= 2
            h, w = 2 * h, 2 * w
            total += _conv(t, h, w, out_dim, out_dim, 1)
    return total + _conv(t, h, w, dims[-1], PIXEL_CHANNELS, taps)


def encode_flops(config: VAEConfig, frames: int, height: int, width: int) -> int:
    """The VAE's encoder on a video."""
    rest = config.latent_frames(frames) - 1
    first, later = (_encode_chunk(config, height, width, is_first) for is_first in (True, False))
    return first + rest * later


def decode_flops(config: VAEConfig, frames: int, h: int, w: int) -> int:
    """The VAE's decoder on `frames` latent frames, those included whose pictures are dropped."""
    first, later = (_decode_chunk(config, h, w, is_first) for is_first in (True, False))
    return first + (frames - 1) * later
