"""CLIP's visual tower: a picture to the tokens before its last block.

The residual stream, norms and softmax are in float32. Called outside `jit`, the tower compiles one block and runs it
for all layers, and another picture size compiles the embedding alone. On several devices each computes some heads and
some hidden channels; the residual stream is whole on all.

Shapes: B batch, H W rows and columns of a picture, S of the one that the tower sees, T tokens, D width.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange
from flax import nnx
from jaxtyping import Array, Float

from talkverse_jax.models.clip.config import MLP_RATIO, ClipVisionConfig
from talkverse_jax.models.clip.resize import resize
from talkverse_jax.ops.norm import layer_norm
from talkverse_jax.sharding.layout import Layout

# Of red, green and blue in [0, 1], over the pictures that CLIP learned from.
_MEAN = np.array([0.48145466, 0.4578275, 0.40821073], np.float32)
_STD = np.array([0.26862954, 0.26130258, 0.27577711], np.float32)


def pixels(picture: Float[Array, "B H W 3"], config: ClipVisionConfig) -> Float[Array, "B S S 3"]:
    """What the tower sees of pictures in [-1, 1] of any size: squeezed to a square, normalised; float32."""
    square = resize(picture, config.image_size, config.image_size)
    return (square * 0.5 + 0.5 - _MEAN) / _STD


class ClipEmbedding(nnx.Module):
    """Patches and a class token, each with its position, behind a norm."""

    def __init__(self, config: ClipVisionConfig, *, rngs: nnx.Rngs, dtype, param_dtype, layout: Layout):
        self.config = config
        self.layout = layout
        patch, init = (config.patch_size, config.patch_size), nnx.initializers.normal(config.dim**-0.5)
        conv = functools.partial(nnx.Conv, strides=patch, padding="VALID", use_bias=False)
        self.patches = conv(3, config.dim, patch, rngs=rngs, dtype=dtype, param_dtype=param_dtype)
        self.first = nnx.Param(init(rngs.params(), (config.dim,), param_dtype))
        self.positions = nnx.Param(init(rngs.params(), (config.tokens, config.dim), param_dtype))
        self.norm = layer_norm(config.dim, config.norm_eps, affine=True, rngs=rngs, param_dtype=param_dtype)

    def __call__(self, picture: Float[Array, "B H W 3"]) -> Float[Array, "B T D"]:
        patches = rearrange(self.patches(pixels(picture, self.config)), "b h w d -> b (h w) d")
        patches = self.layout.constrain(patches.astype(jnp.float32), "batch", None, None)
        first = jnp.broadcast_to(self.first.get_value().astype(jnp.float32), (len(patches), 1, patches.shape[-1]))
        positions = self.positions.get_value().astype(jnp.float32)
        return self.norm(jnp.concatenate([first, patches], axis=1) + positions)


class ClipAttention(nnx.Module):
    """Self-attention."""

    def __init__(self, config: ClipVisionConfig, *, rngs: nnx.Rngs, dtype, param_dtype, layout: Layout):
        linear = functools.partial(nnx.Linear, rngs=rngs, dtype=dtype, param_dtype=param_dtype)
        self.layout = layout
        self.num_heads = config.num_heads
        self.to_qkv = linear(config.dim, 3 * config.dim)
        self.proj = linear(config.dim, config.dim)

    def __call__(self, x: Float[Array, "B T D"]) -> Float[Array, "B T D"]:
        qkv = rearrange(self.to_qkv(x), "b t (part n k) -> part b t n k", part=3, n=self.num_heads)
        q, k, v = (self.layout.constrain(y, "batch", None, "heads", None) for y in qkv)
        out = jax.nn.dot_product_attention(q, k, v, implementation="xla")
        return self.proj(rearrange(out, "b t n k -> b t (n k)"))


class ClipFeedForward(nnx.Module):
    """Linear, exact GELU, Linear."""

    def __init__(self, config: ClipVisionConfig, *, rngs: nnx.Rngs, dtype, param_dtype, layout: Layout):
        linear = functools.partial(nnx.Linear, rngs=rngs, dtype=dtype, param_dtype=param_dtype)
        self.layout = layout
        self.fc1 = linear(config.dim, MLP_RATIO * config.dim)
        self.fc2 = linear(MLP_RATIO * config.dim, config.dim)

    def __call__(self, x: Float[Array, "B T D"]) -> Float[Array, "B T D"]:
        hidden = nnx.gelu(self.fc1(x), approximate=False)
        return self.fc2(self.layout.constrain(hidden, "batch", None, "hidden"))


class ClipBlock(nnx.Module):
    """Attention and feed-forward, each behind its norm."""

    def __init__(self, config: ClipVisionConfig, *, rngs: nnx.Rngs, dtype, param_dtype, layout: Layout):
        kwargs: dict[str, Any] = dict(rngs=rngs, dtype=dtype, param_dtype=param_dtype, layout=layout)
        self.layout = layout
        self.norm1 = layer_norm(config.dim, config.norm_eps, affine=True, rngs=rngs, param_dtype=param_dtype)
        self.attn = ClipAttention(config, **kwargs)
        self.norm2 = layer_norm(config.dim, config.norm_eps, affine=True, rngs=rngs, param_dtype=param_dtype)
        self.mlp = ClipFeedForward(config, **kwargs)

    def __call__(self, x: Float[Array, "B T D"]) -> Float[Array, "B T D"]:
        whole = lambda y: self.layout.constrain(y.astype(jnp.float32), "batch", None, None)  # noqa: E731
        x = x + whole(self.attn(self.norm1(x)))
        return x + whole(self.mlp(self.norm2(x)))


class ClipVision(nnx.Module):
    """The visual tower without its last block."""

    def __init__(
        self,
        config: ClipVisionConfig,
        *,
        rngs: nnx.Rngs,
        dtype=jnp.float32,
        param_dtype=jnp.float32,
        layout: Layout = Layout(),
    ):
        kwargs: dict[str, Any] = dict(rngs=rngs, dtype=dtype, param_dtype=param_dtype, layout=layout)
        self.config, self.layout = config, layout
        self.embedding = ClipEmbedding(config, **kwargs)
        self.blocks = nnx.List(ClipBlock(config, **kwargs) for _ in range(config.computed_layers))

    def __call__(self, picture: Float[Array, "B H W 3"]) -> Float[Array, "B T D"]:
        """The tokens of pictures in [-1, 1], the class token first; float32."""
        program, arguments = embedding_call(self, picture)
        x = program(*arguments)
        for block in self.blocks:
            x = _run(*nnx.split(block), x)
        return x


def embedding_call(model: ClipVision, picture: Any) -> tuple[Any, tuple[Any, ...]]:
    """The program of the embedding, and its arguments; arrays may be shapes."""
    return _run, (*nnx.split(model.embedding), picture)


def block_call(model: ClipVision, x: Any) -> tuple[Any, tuple[Any, ...]]:
    """The program of every block, and its arguments for the first."""
    return _run, (*nnx.split(model.blocks[0]), x)


@functools.partial(jax.jit, static_argnums=0)
def _run(graphdef: nnx.GraphDef, state: nnx.State, x: Array) -> Array:
    return nnx.merge(graphdef, state)(x)
