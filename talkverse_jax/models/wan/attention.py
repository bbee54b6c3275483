"""Self- and cross-attention of a Wan block: from the residual stream to what is added to it.

Shapes: B batch, L tokens, S context tokens, I those of a picture, D width, N heads, K head width (D = N K).
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
from einops import rearrange
from flax import nnx
from jaxtyping import Array, Float

from talkverse_jax.models.wan.layers import enter, leave
from talkverse_jax.models.wan.linear import Linear
from talkverse_jax.ops.attention import Attention, Segments
from talkverse_jax.ops.product import product_on
from talkverse_jax.ops.rope import RopeTables, apply_rope
from talkverse_jax.ops.turn import can_turn, normed_and_turned


class KeyValues(NamedTuple):
    """Keys and values of a context, ready for attention; constant while the context is."""

    keys: Float[Array, "B S N K"]
    values: Float[Array, "B S N K"]


class Projected(NamedTuple):
    """Tokens as self-attention takes them."""

    queries: Float[Array, "B L N K"]
    keys: Float[Array, "B L N K"]
    values: Float[Array, "B L N K"]


class _Projections(nnx.Module):
    """q, k, v, o with bias; q and k pass an RMS norm over the whole width before the split into heads."""

    def __init__(self, dim: int, num_heads: int, eps: float, attention: Attention, *, rngs, dtype, param_dtype):
        linear: dict[str, Any] = dict(
            kernel_init=nnx.initializers.xavier_uniform(), rngs=rngs, dtype=dtype, param_dtype=param_dtype
        )
        linear["dot_general"] = product_on(attention.layout.platform)
        norm: dict[str, Any] = dict(epsilon=eps, dtype=jnp.float32, param_dtype=param_dtype, rngs=rngs)
        self.num_heads = num_heads
        self.dtype = dtype
        self.attention = attention
        self.q = Linear(dim, dim, **linear)
        self.k = Linear(dim, dim, **linear)
        self.v = Linear(dim, dim, **linear)
        self.o = Linear(dim, dim, **linear)
        self.norm_q = nnx.RMSNorm(dim, **norm)
        self.norm_k = nnx.RMSNorm(dim, **norm)

    def _enter(self, x: Float[Array, "B L D"]) -> Float[Array, "B L D"]:
        return enter(self.attention.layout, x, self.dtype)

    def _queries(self, x: Float[Array, "B L D"]) -> Float[Array, "B L N K"]:
        return self._heads(self.norm_q(self.q(x)), "tokens")

    def _keys(self, x: Float[Array, "B S D"], positions: str | None) -> Float[Array, "B S N K"]:
        return self._heads(self.norm_k(self.k(x)), positions)

    def _values(self, x: Float[Array, "B S D"], positions: str | None) -> Float[Array, "B S N K"]:
        return self._heads(self.v(x), positions)

    def _heads(self, x: Float[Array, "B L D"], positions: str | None) -> Float[Array, "B L N K"]:
        x = rearrange(x, "b l (n k) -> b l n k", n=self.num_heads)
        return self.attention.layout.constrain(x, "batch", positions, "heads", None)

    def _leave(self, x: Float[Array, "B L N K"]) -> Float[Array, "B L D"]:
        return leave(self.attention.layout, self.o(rearrange(x, "b l n k -> b l (n k)")))


class SelfAttention(_Projections):
    """Attention among the tokens, with rotary positions."""

    def __call__(self, x: Float[Array, "B L D"], rope: RopeTables, tokens: int) -> Float[Array, "B L D"]:
        """Only the first `tokens` of the L are attended to; the others are padding."""
        return self.attend(self.project(x, rope), tokens)

    def project(self, x: Float[Array, "B L D"], rope: RopeTables) -> "Projected":
        """Queries and keys at their positions, and values."""
        x = self._enter(x)
        q, k = self._turned(self.q(x), self.norm_q, rope), self._turned(self.k(x), self.norm_k, rope)
        return Projected(*(y.astype(self.dtype) for y in (q, k, self._values(x, "tokens"))))

    def _turned(self, x: Float[Array, "B L D"], norm: nnx.RMSNorm, rope: RopeTables) -> Float[Array, "B L N K"]:
        """Normed over the whole width, each head turned to its position."""
        layout = self.attention.layout
        if not can_turn(layout, x.shape[-1] // self.num_heads):
            return apply_rope(self._heads(norm(x), "tokens"), rope)
        gain = norm.scale.get_value()  # pyright: ignore[reportOptionalMemberAccess]  # it has one
        x = normed_and_turned(layout, x, gain, rope, eps=norm.epsilon, dtype=self.dtype)
        return self._heads(x, "tokens")

    def attend(self, projected: "Projected", tokens: int) -> Float[Array, "B L D"]:
        """The rest of the stage."""
        return self._leave(self.attention.self_attention(*projected, tokens))


class CrossAttention(_Projections):
    """Attention of the tokens to a context whose keys and values are computed beforehand."""

    def key_values(self, context: Float[Array, "B S D"]) -> KeyValues:
        keys, values = self._keys(context, None), self._values(context, None)
        return KeyValues(keys.astype(self.dtype), values.astype(self.dtype))

    def __call__(
        self, x: Float[Array, "B L D"], context: KeyValues, segments: Segments | None = None
    ) -> Float[Array, "B L D"]:
        """With `segments`, a token sees the context tokens of its own segment."""
        q = self._queries(self._enter(x)).astype(self.dtype)
        return self._leave(self.attention.cross_attention(q, context.keys, context.values, segments))


class ImageContext(NamedTuple):
    """What the tokens are told beside each other: of the text and of a picture."""

    text: KeyValues
    image: KeyValues


class ImageCrossAttention(CrossAttention):
    """Cross-attention of Wan's image-to-video models: a picture's tokens have keys and values of their own, and what
    the two attentions find is added."""

    def __init__(self, dim: int, num_heads: int, eps: float, attention: Attention, *, rngs, dtype, param_dtype):
        super().__init__(dim, num_heads, eps, attention, rngs=rngs, dtype=dtype, param_dtype=param_dtype)
        linear: dict[str, Any] = dict(
            kernel_init=nnx.initializers.xavier_uniform(), rngs=rngs, dtype=dtype, param_dtype=param_dtype
        )
        linear["dot_general"] = product_on(attention.layout.platform)
        self.k_img = Linear(dim, dim, **linear)
        self.v_img = Linear(dim, dim, **linear)
        self.norm_k_img = nnx.RMSNorm(dim, epsilon=eps, dtype=jnp.float32, param_dtype=param_dtype, rngs=rngs)

    def contexts(self, text: Float[Array, "B S D"], image: Float[Array, "B I D"]) -> ImageContext:
        """Keys and values of both."""
        keys = self._heads(self.norm_k_img(self.k_img(image)), None)
        values = self._heads(self.v_img(image), None)
        return ImageContext(self.key_values(text), KeyValues(keys.astype(self.dtype), values.astype(self.dtype)))

    def __call__(  # pyright: ignore[reportIncompatibleMethodOverride]  # it takes two contexts
        self, x: Float[Array, "B L D"], context: ImageContext
    ) -> Float[Array, "B L D"]:
        q = self._queries(self._enter(x)).astype(self.dtype)
        text, image = (self.attention.cross_attention(q, part.keys, part.values) for part in context)
        return self._leave(text + image)
