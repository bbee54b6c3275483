"""From the waveform to 50 vectors a second: seven strided convolutions and a projection.

Shapes: B batch, S samples at 16 kHz, T vectors (50 a second), C channels, D width.
"""

import jax
import jax.numpy as jnp
from einops import rearrange
from flax import nnx
from jaxtyping import Array, Float

from talkverse_jax.models.wav2vec2.config import Wav2Vec2Config

# Vectors computed at once (10 s). The first convolution's output is 512 channels at 3.2 kHz: 66 MB for 10 s,
# 3.9 GB for 10 minutes.
BLOCK = 500


def layer_norm(dim: int, eps: float, *, rngs: nnx.Rngs, param_dtype) -> nnx.LayerNorm:
    """Layer norm in float32, with the two-pass variance."""
    return nnx.LayerNorm(
        dim, epsilon=eps, use_fast_variance=False, dtype=jnp.float32, param_dtype=param_dtype, rngs=rngs
    )


class ConvLayer(nnx.Module):
    """Convolution without padding, layer norm over channels, GELU."""

    def __init__(self, in_channels, out_channels, kernel, stride, *, rngs: nnx.Rngs, dtype, param_dtype):
        self.conv = nnx.Conv(
            in_channels,
            out_channels,
            kernel_size=(kernel,),
            strides=(stride,),
            padding="VALID",
            rngs=rngs,
            dtype=dtype,
            param_dtype=param_dtype,
        )
        self.layer_norm = layer_norm(out_channels, 1e-5, rngs=rngs, param_dtype=param_dtype)

    def __call__(self, x: Float[Array, "B S c"]) -> Float[Array, "B s C"]:
        return nnx.gelu(self.layer_norm(self.conv(x)), approximate=False)


class FeatureExtractor(nnx.Module):
    """The convolutions over the waveform, in blocks of 10 s that overlap by what a vector sees."""

    def __init__(self, config: Wav2Vec2Config, *, rngs: nnx.Rngs, dtype, param_dtype):
        self.config = config
        channels = (1, *config.conv_dim)
        self.conv_layers = nnx.List(
            ConvLayer(*sizes, rngs=rngs, dtype=dtype, param_dtype=param_dtype)
            for sizes in zip(channels, channels[1:], config.conv_kernel, config.conv_stride)
        )

    def __call__(self, waveform: Float[Array, "B S"]) -> Float[Array, "B T C"]:
        frames = self.config.frames(waveform.shape[1])
        if frames <= BLOCK:
            return self._convolve(waveform)
        blocks = -(-frames // BLOCK)
        step = BLOCK * self.config.hop
        length = step - self.config.hop + self.config.field
        missing = max(0, (blocks - 1) * step + length - waveform.shape[1])
        waveform = jnp.pad(waveform, ((0, 0), (0, missing)))
        windows = jnp.stack([waveform[:, i * step : i * step + length] for i in range(blocks)])
        features = jax.lax.map(self._convolve, windows)
        return rearrange(features, "blocks b t c -> b (blocks t) c")[:, :frames]

    def _convolve(self, waveform: Float[Array, "B S"]) -> Float[Array, "B T C"]:
        x = waveform[..., None]
        for layer in self.conv_layers:
            x = layer(x)
        return x


class FeatureProjection(nnx.Module):
    """Norm and Linear to the transformer's width."""

    def __init__(self, config: Wav2Vec2Config, *, rngs: nnx.Rngs, dtype, param_dtype):
        width = config.conv_dim[-1]
        self.layer_norm = layer_norm(width, config.layer_norm_eps, rngs=rngs, param_dtype=param_dtype)
        self.projection = nnx.Linear(width, config.hidden_size, rngs=rngs, dtype=dtype, param_dtype=param_dtype)

    def __call__(self, x: Float[Array, "B T C"]) -> Float[Array, "B T D"]:
        return self.projection(self.layer_norm(x)).astype(jnp.float32)
