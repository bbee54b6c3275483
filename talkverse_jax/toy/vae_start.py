"""Where the training of the tiny autoencoder begins: a linear codec, fitted layer by layer by least squares.

Drawn from noise, an autoencoder of this kind learns slowly: its norms throw the level of a picture away until
biases have grown, and its decoder makes detail only from the differences of neighbours. So residual branches begin
at zero, biases are large, each resampling of the encoder keeps the principal components of what it sees, and the
decoder's are found by regression. Where two frames become one, most channels hold their mean and the others their
difference: so a video's first frame, which stays alone, is read as two equal ones.

Shapes: B windows, T frames, H W rows and columns, C channels, n positions, f features.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np
from einops import rearrange
from flax import nnx
from jaxtyping import Array, Float

from talkverse_jax.core import tree
from talkverse_jax.core.errors import UserError
from talkverse_jax.models.vae.coders import DownLevel, UpLevel
from talkverse_jax.models.vae.config import VAEConfig
from talkverse_jax.models.vae.layers import AttentionBlock, CausalConv3d, Chunk, ResidualBlock, run_layers
from talkverse_jax.models.vae.model import WanVAE
from talkverse_jax.models.vae.resample import average_down, repeat_up
from talkverse_jax.sharding.layout import Layout

_MEAN_SHARE = 0.75  # of the channels, where frames are halved; the others hold differences
_OFFSET = 4.0  # standard deviation of biases, in those of the channels
_RIDGE = 1e-3
_POSITIONS = 40_000  # that a regression sees
_LATER = Chunk(False, Layout())  # no chunk with a first frame

# [B, T, H, W, C]; each level has sizes of its own
Stream = Float[Array, "_ _ _ _ _"]
HostStream = Float[np.ndarray, "_ _ _ _ _"]
Rows = Float[np.ndarray, "_ _"]


def linear_codec(config: VAEConfig, video: Float[Array, "B T H W 3"], rng: np.random.Generator) -> WanVAE:
    """An autoencoder fitted to some videos.

    Args:
      video: windows without the first frame of a video, in [-1, 1]; T is a multiple of 4.

    Raises:
      UserError: the autoencoder has not the levels that this is written for, or too few channels.
    """
    _check(config)
    vae = tree.abstract(WanVAE, config)
    shapes = tree.parameters(vae)
    vae = tree.with_parameters(vae, {name: _drawn(name, leaf.shape, rng) for name, leaf in shapes.items()})
    for _, node in nnx.iter_graph(vae):
        if isinstance(node, ResidualBlock):
            _set(node.conv2, np.zeros(node.conv2.kernel.shape))
            if node.shortcut:
                channels, width = node.shortcut.kernel.shape
                _set(node.shortcut, np.eye(channels, width))
        elif isinstance(node, AttentionBlock):
            _set(node.proj, np.zeros(node.proj.kernel.shape))
    pixels = rearrange(video, "b t (h y) (w x) c -> b t h w (c x y)", y=2, x=2)
    streams, latents = _fit_encoder(vae, pixels, rng)
    _fit_decoder(vae, latents, streams, pixels, rng)
    return vae


def _check(config: VAEConfig) -> None:
    mult, fine, widest = config.dim_mult, config.dec_dim * config.dim_mult[1], config.dec_dim * config.dim_mult[3]
    if config.temporal_downsample != (False, True, True) or mult != (mult[0], mult[0], 4 * mult[0], 4 * mult[0]):
        raise UserError("dim_mult, temporal_downsample: the start is for [a, a, 4a, 4a], [false, true, true]")
    if (config.pixel_patch, config.shortcuts) != (2, True):
        raise UserError("pixel_patch, shortcuts: the start is for 2, true")
    middle = config.dim * mult[1]
    for name, value, channels, needed in (
        ("dim", config.dim, config.dim, config.pixel_channels),
        ("dec_dim", config.dec_dim, fine, config.pixel_channels),
        ("dec_dim", config.dec_dim, widest, config.z_dim + middle + middle - _kept(middle)),
    ):
        if channels < needed:
            raise UserError(f"{name} {value}: one of its levels has {channels} channels, {needed} are needed")


def _drawn(name: str, shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    """A parameter: kernels keep the variance of what passes."""
    if not name.endswith("kernel"):
        return jnp.full(shape, 1.0 if name.endswith("gamma") else 0.0, jnp.float32)
    return jnp.asarray(rng.standard_normal(shape) / np.sqrt(np.prod(shape[:-1])), jnp.float32)


def _kept(width: int) -> int:
    """Channels that hold means, where frames are halved."""
    return round(_MEAN_SHARE * width)


def _fit_encoder(vae: WanVAE, pixels: Stream, rng: np.random.Generator) -> tuple[list[Stream], Stream]:
    """Returns the stream before each level, and the latents."""
    encoder, z = vae.encoder, vae.config.z_dim
    x, streams = _embed(encoder.conv_in, pixels, rng), []
    for level in encoder.levels[:-1]:
        streams.append(x)
        _fit_down(level, x, rng)
        x = _run(level, x)
    streams.append(x)
    features = _before_head(encoder, x)
    blocks = rearrange(np.asarray(pixels), "b (f t) (h y) (w x) c -> (b f h w) (t y x c)", t=4, y=8, x=8)
    weights, _ = _regression(_rows(x), blocks, rng)
    shown = _centred(_rows(x)) @ weights
    wanted = shown @ _components(shown, z, white=True)
    weights, bias = _regression(_rows(features), np.concatenate([wanted, 0 * wanted], -1), rng)
    _set(encoder.head.conv, _newest(encoder.head.conv, weights), bias)
    _set(vae.quant_conv, np.eye(2 * z))
    return streams, _code(vae, x)


def _fit_down(level: DownLevel, x: Stream, rng: np.random.Generator) -> None:
    """Principal components of 2x2 pixels; then means and differences of two frames."""
    down: Any = level.layers[-1]  # which no type tells from the residual blocks before it
    width = level.out_dim
    y, _ = run_layers(level.layers[:-1], x, None, _LATER)
    kept = _kept(width) if level.time == 2 else width
    patches = rearrange(np.asarray(y), "b t (h y) (w x) c -> (b t h w) (y x c)", y=2, x=2)
    kernel = np.zeros(down.resample.kernel.shape)
    kernel[:2, :2, :, :kept] = rearrange(_components(patches, kept), "(y x c) d -> y x c d", y=2, x=2)
    _set(down.resample, kernel, _offset(width, rng))
    if level.time == 1:
        return
    y = np.asarray(down.resample(y))
    early, late = y[:, ::2], y[:, 1::2]
    wanted = np.zeros(early.shape, np.float32)
    wanted[..., :kept] = (early + late)[..., :kept] / 2
    wanted[..., kept:] = (late - early)[..., : width - kept] / 2
    # The shortcut averages both frames; a video's first frame has none before it, so the early one is taken off.
    before = jnp.where(jnp.arange(x.shape[1])[:, None, None, None] % 2, 0, x)
    wanted -= np.asarray(average_down(before, width, 2, 2))
    weights, bias = _regression(np.concatenate([_rows(early), _rows(late)], -1), _rows(wanted), rng)
    kernel = np.zeros(down.time_conv.kernel.shape)
    kernel[1:, 0, 0] = weights.reshape(2, width, width)
    _set(down.time_conv, kernel, bias)


def _fit_decoder(vae: WanVAE, latents: Stream, streams: list[Stream], pixels: Stream, rng: np.random.Generator) -> None:
    """The stream holds the latents in its first channels; what is finer is written into the last ones.

    Level 0 makes of the latents what the encoder has of half as many rows and columns and twice as many frames
    (`middle`). Level 1 makes pixels of that, in blocks of 2x2, which level 2 only lays out.
    """
    decoder, encoder, z = vae.decoder, vae.encoder, vae.config.z_dim
    fine, middle = streams[1], streams[2]
    _set(vae.post_quant_conv, np.eye(z))
    x = _embed(decoder.conv_in, latents, rng)

    # A frame of a pair is shown as if both were like it, so that a video's first frame needs no pair; how both
    # differ is kept beside it.
    at = x.shape[-1] - middle.shape[-1]
    frames = np.array(x.repeat(2, axis=1))
    frames[..., :z] = _code(vae, _run(encoder.levels[2], middle.repeat(2, axis=1)))
    moving = _centred(np.asarray(middle)[..., _kept(middle.shape[-1]) :])
    frames[..., at:] += rearrange(moving, "b t (h y) (w x) c -> b t h w (y x c)", y=2, x=2)[..., : x.shape[-1] - at]
    x = _fit_up(decoder.levels[0], x, _fit_pairs(decoder.levels[0], x, frames, rng), middle, at, rng)

    frames = np.array(x.repeat(2, axis=1))
    frames[..., at:] = _run(encoder.levels[1], fine.repeat(2, axis=1))
    moving = _centred(np.asarray(x)[..., at + _kept(middle.shape[-1]) :]).repeat(2, axis=1)
    frames[..., at - moving.shape[-1] : at] += moving
    blocks = rearrange(pixels / pixels.std(), "b t (h y) (w x) c -> b t h w (c y x)", y=2, x=2)
    at = x.shape[-1] - blocks.shape[-1]
    x = _fit_up(decoder.levels[1], x, _fit_pairs(decoder.levels[1], x, frames, rng), blocks, at, rng)

    level = decoder.levels[2]
    conv = _upsample(level).resample
    _set(conv, np.zeros(conv.kernel.shape), _offset(level.out_dim, rng))
    x, _ = level(x, None, _LATER)

    kernel = np.zeros(decoder.head.conv.kernel.shape)
    kernel[-1], bias = _regression_3x3(nnx.silu(decoder.head.norm(x)), pixels, rng)
    _set(decoder.head.conv, kernel, bias)


def _fit_pairs(level: UpLevel, x: Stream, frames: HostStream, rng: np.random.Generator) -> Stream:
    """Have the time convolution make these frames, two of each; returns what it makes."""
    conv = _upsample(level).time_conv
    pairs = np.concatenate([frames[:, ::2], frames[:, 1::2]], -1)
    weights, bias = _regression(_rows(x), _rows(pairs), rng)
    _set(conv, _newest(conv, weights), bias)
    return rearrange(conv(x, None, _LATER)[0], "b t h w (pair c) -> b (t pair) h w c", pair=2)


def _fit_up(level: UpLevel, x: Stream, y: Stream, finer: Stream, at: int, rng: np.random.Generator) -> Stream:
    """Have the level write `finer` from channel `at` on, and zeros behind it; returns the stream after it.

    Args:
      x: the stream before the level.
      y: what its resampling is given.
    """
    conv = _upsample(level).resample
    y = y.repeat(2, axis=2).repeat(2, axis=3)
    shortcut = repeat_up(x, level.out_dim, level.time, level.space)
    wanted = np.zeros(shortcut.shape, np.float32)
    wanted[..., at:] = -np.asarray(shortcut)[..., at:]
    wanted[..., at : at + finer.shape[-1]] += np.asarray(finer)
    _set(conv, *_regression_3x3(y, wanted, rng))
    return conv(y) + shortcut


def _upsample(level: UpLevel) -> Any:
    """The last layer of a level, which no type tells from its residual blocks."""
    return level.layers[-1]


def _embed(conv: CausalConv3d, x: Stream, rng: np.random.Generator) -> Stream:
    """Have the convolution let its input pass, scaled to a deviation of 1."""
    channels, width = conv.kernel.shape[-2:]
    kernel = _newest(conv, np.eye(channels, width) / np.asarray(x).std())
    _set(conv, kernel, _offset(kernel.shape[-1], rng))
    return conv(x, None, _LATER)[0]


def _code(vae: WanVAE, x: Stream) -> Stream:
    """The latents of a stream before the encoder's last level."""
    features = _before_head(vae.encoder, x)
    return vae.encoder.head.conv(features, None, _LATER)[0][..., : vae.config.z_dim]


def _before_head(encoder, x: Stream) -> Stream:
    x, _ = run_layers(encoder.middle, _run(encoder.levels[-1], x), None, _LATER)
    return nnx.silu(encoder.head.norm(x))


def _run(level: DownLevel, x: Stream) -> Stream:
    return level(x, None, _LATER)[0]


def _set(layer, kernel: np.ndarray, bias: np.ndarray | None = None) -> None:
    layer.kernel.set_value(jnp.asarray(kernel, jnp.float32).reshape(layer.kernel.shape))
    layer.bias.set_value(jnp.zeros(layer.bias.shape) if bias is None else jnp.asarray(bias, jnp.float32))


def _newest(conv: CausalConv3d, weights: Float[np.ndarray, "C D"]) -> Float[np.ndarray, "t y x C D"]:
    """A kernel that sees the pixel itself of the newest frame alone."""
    kernel = np.zeros(conv.kernel.shape)
    kernel[-1, kernel.shape[1] // 2, kernel.shape[2] // 2] = weights
    return kernel


def _offset(width: int, rng: np.random.Generator) -> Float[np.ndarray, " C"]:
    """Biases that let a picture's level pass the norms: relative to them it stays what it was."""
    return _OFFSET * rng.standard_normal(width)


def _rows(x) -> Rows:
    return np.asarray(x, np.float32).reshape(-1, x.shape[-1])


def _centred(x: np.ndarray) -> np.ndarray:
    return x - x.mean(tuple(range(x.ndim - 1)))


def _regression_3x3(
    x: Stream, wanted: Stream | HostStream, rng: np.random.Generator
) -> tuple[Float[np.ndarray, "3 3 C D"], Float[np.ndarray, " D"]]:
    """Kernel and bias of a convolution that makes of pixels and their neighbours, zeros outside, what is wanted."""
    padded = np.pad(np.asarray(x, np.float32), ((0, 0), (0, 0), (1, 1), (1, 1), (0, 0)))
    height, width = x.shape[2:4]
    parts = [padded[:, :, top : top + height, left : left + width] for top in range(3) for left in range(3)]
    weights, bias = _regression(_rows(np.concatenate(parts, -1)), _rows(wanted), rng)
    return rearrange(weights, "(y x c) d -> y x c d", y=3, x=3), bias


def _components(x: Rows, count: int, white: bool = False) -> Float[np.ndarray, "f count"]:
    """The first principal components, scaled so that their variances are 1 on average, or (`white`) each."""
    values, vectors = np.linalg.eigh(np.cov(x, rowvar=False))
    values, vectors = values[::-1][:count], vectors[:, ::-1][:, :count]
    scale = np.sqrt(values + 1e-4 * values[0]) if white else np.sqrt(values.mean())
    return (vectors / scale).astype(np.float32)


def _regression(
    x: Rows, y: Float[np.ndarray, "n outputs"], rng: np.random.Generator
) -> tuple[Float[np.ndarray, "f outputs"], Float[np.ndarray, " outputs"]]:
    """Weights and biases, by ridge regression on some of the positions."""
    chosen = rng.permutation(len(x))[:_POSITIONS]
    x, y = x[chosen], y[chosen]
    mean, level = x.mean(0), y.mean(0)
    scale = x.std(0) + 1e-3 * x.std()
    a = ((x - mean) / scale).astype(np.float64)
    gram = a.T @ a / len(a) + _RIDGE * np.eye(a.shape[1])
    weights = np.linalg.solve(gram, a.T @ (y - level) / len(a)) / scale[:, None]
    return weights, level - mean @ weights
