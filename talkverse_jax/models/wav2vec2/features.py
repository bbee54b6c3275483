"""From the waveform to 50 vectors a second: seven strided convolutions and a projection.

Shapes: B batch, S samples at 16 kHz, T vectors (50 a second), C channels, D width.
"""

from functools import partial

import jax
import jax.numpy as jnp
from einops import rearrange
from flax import nnx
from jaxtyping import Array, Float, Int

from talkverse_jax.models.wav2vec2.config import Wav2Vec2Config
from talkverse_jax.models.wav2vec2.moments import Moments
from talkverse_jax.ops.norm import layer_norm

# Vectors computed at once (10 s). The first convolution's output is 512 channels at 3.2 kHz: 66 MB for 10 s,
# 3.9 GB for 10 minutes.
BLOCK = 500
_EPS = 1e-5  # of the convolutions' norms; no config names it


class ChannelNorm(nnx.Module):
    """Each channel by its mean and variance over the whole sound, of which `x` may be a part; in float32."""

    def __init__(self, dim: int, eps: float, *, rngs: nnx.Rngs, param_dtype):
        self.eps = eps
        self.scale = nnx.Param(nnx.initializers.ones(rngs.params(), (dim,), param_dtype))
        self.bias = nnx.Param(nnx.initializers.zeros(rngs.params(), (dim,), param_dtype))

    def __call__(self, x: Float[Array, "B T C"], moments: Moments) -> Float[Array, "B T C"]:
        mean, variance = (jnp.asarray(y, jnp.float32)[:, None] for y in (moments.mean, moments.variance))
        scale, bias = (y.get_value().astype(jnp.float32) for y in (self.scale, self.bias))
        return (x.astype(jnp.float32) - mean) * jax.lax.rsqrt(variance + self.eps) * scale + bias


class ConvLayer(nnx.Module):
    """Convolution without padding, a norm or none, GELU."""

    def __init__(
        self, in_channels, out_channels, kernel, stride, *, norm: str | None, bias, rngs: nnx.Rngs, dtype, param_dtype
    ):
        self.conv = nnx.Conv(
            in_channels,
            out_channels,
            kernel_size=(kernel,),
            strides=(stride,),
            padding="VALID",
            use_bias=bias,
            rngs=rngs,
            dtype=dtype,
            param_dtype=param_dtype,
        )
        norms = {"layer": partial(layer_norm, affine=True), "group": ChannelNorm}
        self.layer_norm = norms[norm](out_channels, _EPS, rngs=rngs, param_dtype=param_dtype) if norm else None

    def __call__(self, x: Float[Array, "B S c"], moments: Moments | None) -> Float[Array, "B s C"]:
        x = self.conv(x)
        if isinstance(self.layer_norm, ChannelNorm):
            assert moments is not None, "of the whole sound"
            x = self.layer_norm(x, moments)
        elif self.layer_norm:
            x = self.layer_norm(x)
        return nnx.gelu(x, approximate=False)


class FeatureExtractor(nnx.Module):
    """The convolutions over the waveform, in blocks of 10 s that overlap by what a vector sees."""

    def __init__(self, config: Wav2Vec2Config, *, rngs: nnx.Rngs, dtype, param_dtype):
        self.config = config
        channels = (1, *config.conv_dim)
        more = "layer" if config.feat_extract_norm == "layer" else None
        self.conv_layers = nnx.List(
            ConvLayer(
                *sizes,
                norm=more if i else config.feat_extract_norm,
                bias=config.conv_bias,
                rngs=rngs,
                dtype=dtype,
                param_dtype=param_dtype,
            )
            for i, sizes in enumerate(zip(channels, channels[1:], config.conv_kernel, config.conv_stride))
        )

    def __call__(self, waveform: Float[Array, "B S"], moments: Moments | None = None) -> Float[Array, "B T C"]:
        """Args:
        moments: of the whole sound, by `moments`; where the norm of the first convolution needs them ("group").
        """
        frames = self.config.frames(waveform.shape[1])
        if frames <= BLOCK:
            return self._convolve(waveform, moments)
        step = BLOCK * self.config.hop
        windows = _windows(waveform, step, step - self.config.hop + self.config.field, -(-frames // BLOCK))
        features = jax.lax.map(lambda window: self._convolve(window, moments), windows)
        return rearrange(features, "blocks b t c -> b (blocks t) c")[:, :frames]

    def moments(self, waveform: Float[Array, "B S"], samples: Int[Array, " B"]) -> Moments:
        """Of what the first convolution gives for the first `samples`, over all time."""
        kernel, stride = self.config.conv_kernel[0], self.config.conv_stride[0]
        counted = (samples - kernel) // stride + 1
        length = (waveform.shape[1] - kernel) // stride + 1
        vectors = min(length, BLOCK * self.config.hop // stride)  # of a block
        blocks = -(-length // vectors)
        windows = _windows(waveform, vectors * stride, (vectors - 1) * stride + kernel, blocks)
        first = self.conv_layers[0].conv

        def add(total: Moments, block) -> tuple[Moments, None]:
            number, window = block
            x = first(window[..., None])
            return total.joined(Moments.of(x, number * vectors + jnp.arange(vectors) < counted[:, None])), None

        zeros = jnp.zeros((waveform.shape[0], self.config.conv_dim[0]))
        return jax.lax.scan(add, Moments(zeros[:, 0], zeros, zeros), (jnp.arange(blocks), windows))[0]

    def _convolve(self, waveform: Float[Array, "B S"], moments: Moments | None) -> Float[Array, "B T C"]:
        x = waveform[..., None]
        for layer in self.conv_layers:
            x = layer(x, moments)
        return x


def _windows(waveform: Float[Array, "B S"], step: int, length: int, count: int) -> Float[Array, "windows B length"]:
    """So many windows, each `step` behind the one before; zeros behind the waveform."""
    missing = max(0, (count - 1) * step + length - waveform.shape[1])
    waveform = jnp.pad(waveform, ((0, 0), (0, missing)))
    return jnp.stack([waveform[:, i * step : i * step + length] for i in range(count)])


class FeatureProjection(nnx.Module):
    """Norm and Linear to the transformer's width."""

    def __init__(self, config: Wav2Vec2Config, *, rngs: nnx.Rngs, dtype, param_dtype):
        width = config.conv_dim[-1]
        self.layer_norm = layer_norm(width, config.layer_norm_eps, affine=True, rngs=rngs, param_dtype=param_dtype)
        self.projection = nnx.Linear(width, config.hidden_size, rngs=rngs, dtype=dtype, param_dtype=param_dtype)

    def __call__(self, x: Float[Array, "B T C"]) -> Float[Array, "B T D"]:
        return self.projection(self.layer_norm(x)).astype(jnp.float32)
