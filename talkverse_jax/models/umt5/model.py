"""UMT5 encoder: token ids to hidden states.

The residual stream, norms and softmax are in float32. Called outside `jit` (as it should be at full size),
the encoder compiles one block and runs it for all layers: in bfloat16 on a CPU, XLA (JAX 0.10.2) turns the
weights of all layers of one program to float32 before it starts, 17 GB for XXL, be they unrolled or scanned.
On several devices each computes some heads and some hidden channels; the residual stream is whole on all.

Shapes: B batch, T tokens, D width, N heads, K head width.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange
from flax import nnx
from jaxtyping import Array, Bool, Float, Int, Shaped

from talkverse_jax.models.umt5.config import UMT5Config
from talkverse_jax.ops.product import product_on
from talkverse_jax.sharding.layout import Layout

EPS = 1e-6


def _linear(layout: Layout, **kwargs: Any) -> Callable[[int, int], nnx.Linear]:
    return functools.partial(nnx.Linear, use_bias=False, dot_general=product_on(layout.platform), **kwargs)


class UMT5Attention(nnx.Module):
    """Self-attention without biases; T5 does not scale the scores."""

    def __init__(self, config: UMT5Config, *, rngs: nnx.Rngs, dtype, param_dtype, layout: Layout):
        linear = _linear(layout, rngs=rngs, dtype=dtype, param_dtype=param_dtype)
        self.layout = layout
        self.num_heads = config.num_heads
        self.q = linear(config.dim, config.dim_attn)
        self.k = linear(config.dim, config.dim_attn)
        self.v = linear(config.dim, config.dim_attn)
        self.o = linear(config.dim_attn, config.dim)

    def __call__(
        self, x: Float[Array, "B T D"], position_bias: Float[Array, "1 N T T"], mask: Bool[Array, "B T"]
    ) -> Float[Array, "B T D"]:
        projections = (self.q, self.k, self.v)
        q, k, v = (rearrange(f(x), "b t (n k) -> b t n k", n=self.num_heads) for f in projections)
        q, k, v = (self.layout.constrain(y, "batch", None, "heads", None) for y in (q, k, v))
        bias = self.layout.constrain(position_bias, None, "heads", None, None)
        out = jax.nn.dot_product_attention(
            q, k, v, bias=bias, mask=mask[:, None, None], scale=1.0, implementation="xla"
        )
        return self.o(rearrange(out, "b t n k -> b t (n k)"))


class UMT5FeedForward(nnx.Module):
    """Gated tanh-GELU."""

    def __init__(self, config: UMT5Config, *, rngs: nnx.Rngs, dtype, param_dtype, layout: Layout):
        linear = _linear(layout, rngs=rngs, dtype=dtype, param_dtype=param_dtype)
        self.layout = layout
        self.gate = linear(config.dim, config.dim_ffn)
        self.fc1 = linear(config.dim, config.dim_ffn)
        self.fc2 = linear(config.dim_ffn, config.dim)

    def __call__(self, x: Float[Array, "B T D"]) -> Float[Array, "B T D"]:
        hidden = self.fc1(x) * nnx.gelu(self.gate(x), approximate=True)
        return self.fc2(self.layout.constrain(hidden, "batch", None, "hidden"))


class RelativePositions(nnx.Module):
    """A learned score for every head and bucket of relative positions."""

    def __init__(self, config: UMT5Config, *, rngs: nnx.Rngs, param_dtype):
        self.max_distance = config.max_distance
        self.embedding = nnx.Param(
            nnx.initializers.normal((2 * config.num_buckets * config.num_heads) ** -0.5)(
                rngs.params(), (config.num_buckets, config.num_heads), param_dtype
            )
        )

    def __call__(self, length: int) -> Float[Array, "1 N T T"]:
        table = self.embedding.get_value().astype(jnp.float32)
        buckets = position_buckets(length, table.shape[0], self.max_distance)
        return rearrange(table[buckets], "query key n -> 1 n query key")


class UMT5Block(nnx.Module):
    """Attention and feed-forward, each behind its norm; positions enter every block."""

    def __init__(self, config: UMT5Config, *, rngs: nnx.Rngs, dtype, param_dtype, layout: Layout):
        norm = functools.partial(nnx.RMSNorm, epsilon=EPS, dtype=jnp.float32, param_dtype=param_dtype, rngs=rngs)
        self.layout = layout
        self.norm1 = norm(config.dim)
        self.attn = UMT5Attention(config, rngs=rngs, dtype=dtype, param_dtype=param_dtype, layout=layout)
        self.norm2 = norm(config.dim)
        self.ffn = UMT5FeedForward(config, rngs=rngs, dtype=dtype, param_dtype=param_dtype, layout=layout)
        self.pos_embedding = RelativePositions(config, rngs=rngs, param_dtype=param_dtype)

    def __call__(self, x: Float[Array, "B T D"], mask: Bool[Array, "B T"]) -> Float[Array, "B T D"]:
        whole = lambda y: self.layout.constrain(y.astype(jnp.float32), "batch", None, None)  # noqa: E731
        positions = self.pos_embedding(x.shape[1])
        x = x + whole(self.attn(self.norm1(x), positions, mask))
        return x + whole(self.ffn(self.norm2(x)))


class UMT5Encoder(nnx.Module):
    """The encoder half of UMT5."""

    def __init__(
        self,
        config: UMT5Config,
        *,
        rngs: nnx.Rngs,
        dtype=jnp.float32,
        param_dtype=jnp.float32,
        layout: Layout = Layout(),
    ):
        self.config = config
        self.layout = layout
        # The table keeps its own type: nnx.Embed would turn all 256,384 rows to another before the look-up.
        self.token_embedding = nnx.Embed(
            config.vocab, config.dim, rngs=rngs, dtype=param_dtype, param_dtype=param_dtype
        )
        self.blocks = nnx.List(
            UMT5Block(config, rngs=rngs, dtype=dtype, param_dtype=param_dtype, layout=layout)
            for _ in range(config.num_layers)
        )
        self.norm = nnx.RMSNorm(config.dim, epsilon=EPS, dtype=jnp.float32, param_dtype=param_dtype, rngs=rngs)

    def __call__(self, ids: Int[Array, "B T"], mask: Shaped[Array, "B T"]) -> Float[Array, "B T D"]:
        """Hidden states after the final norm, float32.

        Args:
          ids: token ids.
          mask: 1 for tokens, 0 for padding. Nothing attends to padding; its own rows mean nothing.
        """
        mask = mask.astype(bool)
        look_up, arguments = table_call(self, ids)
        x = look_up(*arguments)
        for block in self.blocks:
            x = _run(*nnx.split(block), x, mask)
        return self.norm(x)


def table_call(model: UMT5Encoder, ids: Any) -> tuple[Any, tuple[Any, ...]]:
    """The program that looks up tokens, and its arguments; arrays may be shapes."""
    return _look_up, (*nnx.split(model.token_embedding), ids, model.layout)


def block_call(model: UMT5Encoder, x: Any, mask: Any) -> tuple[Any, tuple[Any, ...]]:
    """The program of every block, and its arguments for the first."""
    return _run, (*nnx.split(model.blocks[0]), x, mask)


@functools.partial(jax.jit, static_argnames=("graphdef", "layout"))
def _look_up(graphdef: nnx.GraphDef, state: nnx.State, ids: Int[Array, "B T"], layout: Layout):
    vectors = nnx.merge(graphdef, state)(ids).astype(jnp.float32)
    return layout.constrain(vectors, "batch", None, None)


@functools.partial(jax.jit, static_argnums=0)
def _run(graphdef: nnx.GraphDef, state: nnx.State, *inputs):
    return nnx.merge(graphdef, state)(*inputs)


def position_buckets(length: int, num_buckets: int, max_distance: int) -> np.ndarray:
    """The bucket [query, key] of every pair of positions.

    Half of the buckets are for keys after the query. Of each half, the first half holds one distance a
    bucket and the rest grows logarithmically up to `max_distance` (T5, Raffel et al. 2020, section 2.1).
    """
    offset = np.arange(length)[None] - np.arange(length)[:, None]
    half = num_buckets // 2
    exact = half // 2
    distance = np.abs(offset)
    # float32 as upstream: distances on the border of two buckets fall where its rounding puts them.
    ratio = np.log(np.maximum(distance, 1).astype(np.float32) / np.float32(exact))
    growth = ratio / np.float32(np.log(max_distance / exact)) * np.float32(half - exact)
    far = np.minimum(exact + growth.astype(np.int32), half - 1)
    return np.where(offset > 0, half, 0) + np.where(distance < exact, distance, far)
