"""What enters the trunk: latent patches, text hidden states, a picture's tokens, timesteps.

Shapes: B batch, F latent frames, h w latent grid, C latent channels, D width, T text tokens, I tokens of a picture.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np
from einops import rearrange
from flax import nnx
from jaxtyping import Array, Float

from talkverse_jax.models.wan.config import WanConfig
from talkverse_jax.ops.norm import layer_norm

MAX_TIMESTEP = 1000


class PatchEmbedding(nnx.Module):
    """A convolution whose stride is its kernel: every patch of the latent video becomes one token."""

    def __init__(self, patch, in_channels: int, dim: int, *, rngs: nnx.Rngs, dtype, param_dtype):
        self.patch = tuple(patch)
        self.dtype = dtype
        init = nnx.initializers.xavier_uniform(in_axis=(0, 1, 2, 3), out_axis=4)
        self.kernel = nnx.Param(init(rngs.params(), (*self.patch, in_channels, dim), param_dtype))
        self.bias = nnx.Param(jnp.zeros((dim,), param_dtype))

    def __call__(self, latents: Float[Array, "B F h w C"]) -> Float[Array, "B L D"]:
        """The tokens of a latent video, frame outermost, column innermost."""
        return self.embed(self.patches(latents))

    def patches(self, latents: Float[Array, "B F h w C"]) -> Float[Array, "B L P"]:
        """Patches of P = (t r s C) numbers; rows and columns that do not fill one are dropped."""
        f, y, x = self.grid(latents)
        t, r, s = self.patch
        return rearrange(
            latents[:, : f * t, : y * r, : x * s].astype(self.dtype),
            "b (f t) (y r) (x s) c -> b (f y x) (t r s c)",
            t=t,
            r=r,
            s=s,
        )

    def embed(self, patches: Float[Array, "B L P"]) -> Float[Array, "B L D"]:
        kernel = rearrange(self.kernel.get_value().astype(self.dtype), "t r s c d -> (t r s c) d")
        return patches @ kernel + self.bias.get_value().astype(self.dtype)

    def grid(self, latents: Float[Array, "B F h w C"]) -> tuple[int, int, int]:
        """Frames, rows and columns of the tokens."""
        f, y, x = (n // p for n, p in zip(latents.shape[1:4], self.patch))
        return f, y, x


class TextEmbedding(nnx.Module):
    """Text hidden states to the model's width: Linear, tanh-GELU, Linear."""

    def __init__(self, config: WanConfig, *, rngs: nnx.Rngs, dtype, param_dtype):
        init = nnx.initializers.normal(0.02)
        kwargs: dict[str, Any] = dict(kernel_init=init, rngs=rngs, dtype=dtype, param_dtype=param_dtype)
        self.text_len = config.text_len
        self.linear_in = nnx.Linear(config.text_dim, config.dim, **kwargs)
        self.linear_out = nnx.Linear(config.dim, config.dim, **kwargs)

    def __call__(self, text: Float[Array, "B T text_dim"]) -> Float[Array, "B text_len D"]:
        """Missing rows are zeros and are embedded (and later attended to) like any other."""
        text = jnp.pad(text, ((0, 0), (0, self.text_len - text.shape[1]), (0, 0)))
        return self.linear_out(nnx.gelu(self.linear_in(text), approximate=True))


class ImageEmbedding(nnx.Module):
    """A picture's tokens to the model's width: norm, Linear, GELU, Linear, norm."""

    EPS = 1e-5

    def __init__(self, image_dim: int, dim: int, *, rngs: nnx.Rngs, dtype, param_dtype):
        kwargs: dict[str, Any] = dict(
            kernel_init=nnx.initializers.xavier_uniform(), rngs=rngs, dtype=dtype, param_dtype=param_dtype
        )
        norm: dict[str, Any] = dict(affine=True, rngs=rngs, param_dtype=param_dtype)
        self.norm_in = layer_norm(image_dim, self.EPS, **norm)
        self.linear_in = nnx.Linear(image_dim, image_dim, **kwargs)
        self.linear_out = nnx.Linear(image_dim, dim, **kwargs)
        self.norm_out = layer_norm(dim, self.EPS, **norm)

    def __call__(self, image: Float[Array, "B I image_dim"]) -> Float[Array, "B I D"]:
        hidden = nnx.gelu(self.linear_in(self.norm_in(image)), approximate=False)
        return self.norm_out(self.linear_out(hidden))


class TimeEmbedding(nnx.Module):
    """Timesteps to the vector of the head and the six modulation vectors of the blocks, in float32."""

    def __init__(self, config: WanConfig, *, rngs: nnx.Rngs, param_dtype):
        kwargs: dict[str, Any] = dict(rngs=rngs, dtype=jnp.float32, param_dtype=param_dtype)
        init = nnx.initializers.normal(0.02)
        self.freq_dim = config.freq_dim
        self.linear_in = nnx.Linear(config.freq_dim, config.dim, kernel_init=init, **kwargs)
        self.linear_out = nnx.Linear(config.dim, config.dim, kernel_init=init, **kwargs)
        self.projection = nnx.Linear(config.dim, 6 * config.dim, **kwargs)

    def __call__(self, timestep: Float[Array, " B"]) -> tuple[Float[Array, "B D"], Float[Array, "B 6 D"]]:
        embedded = self.linear_in(timestep_sinusoid(timestep, self.freq_dim))
        embedded = self.linear_out(nnx.silu(embedded))
        six = self.projection(nnx.silu(embedded))
        return embedded, rearrange(six, "b (six d) -> b six d", six=6)


def timestep_sinusoid(timestep: Float[Array, " B"], width: int) -> Float[Array, "B width"]:
    """cos then sin of `t * 10000**(-i / (width/2))`, for 0 <= t <= 1000.

    A float32 product t * frequency is off by up to 6e-5 radians. The whole part of t is therefore looked
    up in tables made in float64, and the fraction added by the angle-sum formulas; integer timesteps, the
    only ones the samplers and the trainer use, are exact to float32.
    """
    frequencies = 10_000.0 ** (-np.arange(width // 2) / (width // 2))
    angles = np.outer(np.arange(MAX_TIMESTEP + 1), frequencies)
    whole = jnp.clip(jnp.floor(timestep).astype(jnp.int32), 0, MAX_TIMESTEP)
    cos_whole = jnp.asarray(np.cos(angles), jnp.float32)[whole]
    sin_whole = jnp.asarray(np.sin(angles), jnp.float32)[whole]
    rest = (timestep - whole)[:, None].astype(jnp.float32) * jnp.asarray(frequencies, jnp.float32)
    cos_rest, sin_rest = jnp.cos(rest), jnp.sin(rest)
    return jnp.concatenate(
        [cos_whole * cos_rest - sin_whole * sin_rest, sin_whole * cos_rest + cos_whole * sin_rest], axis=-1
    )


def unpatchify(
    patches: Float[Array, "B L P"], grid: tuple[int, int, int], patch: tuple[int, int, int]
) -> Float[Array, "B F h w C"]:
    """Tokens of width P = (t r s C) back to a latent video."""
    f, y, x = grid
    t, r, s = patch
    return rearrange(patches, "b (f y x) (t r s c) -> b (f t) (y r) (x s) c", f=f, y=y, x=x, t=t, r=r, s=s)
