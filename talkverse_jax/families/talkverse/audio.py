"""The audio adapter: wav2vec2 hidden states to audio tokens, and their injection between blocks.

Shapes: B batch, T audio rows (25 a second), A audio width, F latent frames, D model width, S noisy tokens,
N heads, K head width.
"""

import math
from typing import Any, NamedTuple

import jax.numpy as jnp
from einops import rearrange
from flax import nnx
from jaxtyping import Array, Float, Int

from talkverse_jax.core.errors import UserError
from talkverse_jax.families.talkverse.config import TalkVerseConfig
from talkverse_jax.models.wan.attention import CrossAttention, KeyValues
from talkverse_jax.models.wan.modulation import modulated
from talkverse_jax.ops.attention import Attention, Segments
from talkverse_jax.ops.norm import layer_norm

_ADAPTIVE_NORM_EPS = 1e-5
_STRIDES = (1, 2, 2)  # of the encoder's convolutions


class AudioTokens(NamedTuple):
    """One latent frame's sound: a vector for the adaptive norm and the tokens to attend to; float32."""

    summary: Float[Array, "B F D"]
    tokens: Float[Array, "B F 5 D"]


class AudioInjection(NamedTuple):
    """What one injection needs of a clip's sound; constant within the clip."""

    shift: Float[Array, "B F D"]
    scale: Float[Array, "B F D"]
    context: KeyValues  # [B, (F 5), N, K]


class CausalConv(nnx.Module):
    """Convolution over time of kernel 3 that sees no future: two copies of the first row stand in front.

    Made as a product with each row's window: XLA:TPU (libtpu 0.0.51) compiles the gradient of the whole encoder in
    85 s so, with convolutions in 107 (published size, one core).
    """

    def __init__(self, in_dim: int, out_dim: int, stride: int, *, rngs: nnx.Rngs, param_dtype):
        self.stride = stride
        self.conv = nnx.LinearGeneral(
            (3, in_dim), out_dim, axis=(-2, -1), dtype=jnp.float32, param_dtype=param_dtype, rngs=rngs
        )

    def __call__(self, x: Float[Array, "B T C"]) -> Float[Array, "B F D"]:
        x, length = jnp.pad(x, ((0, 0), (2, 0), (0, 0)), mode="edge"), x.shape[1]
        return self.conv(jnp.stack([x[:, i : i + length : self.stride] for i in range(3)], axis=-2))


class CausalAudioEncoder(nnx.Module):
    """Averages the hidden states by learned weights and turns the audio rows of a latent frame into its tokens.

    Runs in float32, as the original does: its input is small.

    Raises:
      UserError: the config's latent frames are not those that the convolutions make.
    """

    def __init__(self, config: TalkVerseConfig, *, rngs: nnx.Rngs, param_dtype):
        if config.time_stride != math.prod(_STRIDES):
            raise UserError(f"time_stride {config.time_stride}: the audio encoder needs {math.prod(_STRIDES)}")
        dim = config.trunk.dim
        kwargs: dict[str, Any] = dict(rngs=rngs, param_dtype=param_dtype)
        self.tokens = config.audio_tokens
        self.layer_weights = nnx.Param(jnp.full((config.audio_layers,), 0.01, param_dtype))
        self.conv1_local = CausalConv(config.audio_dim, dim // 4 * self.tokens, _STRIDES[0], **kwargs)
        self.conv1_global = CausalConv(config.audio_dim, dim // 4, _STRIDES[0], **kwargs)
        self.norm1 = layer_norm(dim // 4, 1e-6, **kwargs)
        self.conv2 = CausalConv(dim // 4, dim // 2, _STRIDES[1], **kwargs)
        self.norm2 = layer_norm(dim // 2, 1e-6, **kwargs)
        self.conv3 = CausalConv(dim // 2, dim, _STRIDES[2], **kwargs)
        self.norm3 = layer_norm(dim, 1e-6, **kwargs)
        self.final_linear = nnx.Linear(dim, dim, dtype=jnp.float32, **kwargs)
        self.padding_token = nnx.Param(jnp.zeros((dim,), param_dtype))

    def __call__(self, features: Float[Array, "B T layers A"]) -> AudioTokens:
        """Rows 4i .. 4i+3 and before give row i; the last incomplete group gives a row too."""
        weights = nnx.silu(self.layer_weights.get_value().astype(jnp.float32))
        x = jnp.einsum("btla,l->bta", features.astype(jnp.float32), weights / weights.sum())
        local = rearrange(self.conv1_local(x), "b t (n c) -> (b n) t c", n=self.tokens)
        tokens = rearrange(self._shared(local), "(b n) f d -> b f n d", n=self.tokens)
        padding = jnp.broadcast_to(self.padding_token.get_value(), (*tokens.shape[:2], 1, tokens.shape[-1]))
        summary = self.final_linear(self._shared(self.conv1_global(x)))
        return AudioTokens(summary, jnp.concatenate([tokens, padding.astype(tokens.dtype)], axis=2))

    def _shared(self, x: Float[Array, "B T C"]) -> Float[Array, "B F D"]:
        x = nnx.silu(self.norm1(x))
        x = nnx.silu(self.norm2(self.conv2(x)))
        return nnx.silu(self.norm3(self.conv3(x)))


class AudioInjector(nnx.Module):
    """One injection: adaptive norm by the frame's summary, cross-attention to the frame's own tokens."""

    def __init__(self, config: TalkVerseConfig, attention: Attention, *, rngs, dtype, param_dtype):
        dim, heads, eps = config.trunk.dim, config.trunk.num_heads, config.trunk.eps
        self.layout = attention.layout
        self.norm = layer_norm(dim, _ADAPTIVE_NORM_EPS, rngs=rngs, param_dtype=param_dtype)
        self.modulation = nnx.Linear(dim, 2 * dim, dtype=jnp.float32, param_dtype=param_dtype, rngs=rngs)
        self.attention = CrossAttention(dim, heads, eps, attention, rngs=rngs, dtype=dtype, param_dtype=param_dtype)

    def prepare(self, audio: AudioTokens) -> AudioInjection:
        modulation = self.layout.constrain(self.modulation(nnx.silu(audio.summary)), "batch", None, None)
        shift, scale = jnp.split(modulation, 2, axis=-1)
        tokens = rearrange(audio.tokens, "b f n d -> b (f n) d")
        return AudioInjection(shift, scale, self.attention.key_values(tokens))

    def __call__(
        self, x: Float[Array, "B L D"], audio: AudioInjection, frames: Int[Array, " L"]
    ) -> tuple[Float[Array, "B L D"], Float[Array, "B L D"]]:
        """The tokens, and what to add to them, given the latent frame of each.

        A clip's sound is small: every device holds it whole and picks what its own tokens need, wherever the
        sequence is cut. Attention runs over all frames' audio tokens with those of other frames masked, which
        costs 1% of the self-attention's products.
        """
        count, tokens = audio.shift.shape[1], audio.context.keys.shape[1]
        audio_frames = jnp.repeat(jnp.arange(count), tokens // count)
        x, entering = modulated(self.layout, self.norm, x, audio.shift, audio.scale, frames, self.attention.dtype)
        return x, self.attention(entering, audio.context, Segments(frames, audio_frames))
