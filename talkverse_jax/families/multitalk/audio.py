"""From wav2vec2 hidden states to audio tokens, and the attention of a frame's tokens to them.

Shapes: R rows (videos by branch of guidance), H speakers, F latent frames, G those but the first, W and V frames of a
window, A audio width, S audio tokens of a latent frame (all speakers'), E their width, L tokens, D model width,
N heads, K head width.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
from einops import rearrange, repeat
from flax import nnx
from jaxtyping import Array, Bool, Float

from talkverse_jax.families.multitalk.config import MultiTalkConfig
from talkverse_jax.models.wan.layers import enter, leave
from talkverse_jax.models.wan.linear import Linear
from talkverse_jax.ops.attention import Attention
from talkverse_jax.ops.norm import layer_norm
from talkverse_jax.ops.rope import apply_rope, line_tables

_NORM_EPS = 1e-5


class AudioWindows(NamedTuple):
    """What the latent frames hear of each speaker.

    Attributes:
      first: around the first frame, which is a latent frame of its own.
      later: around the frames of each other latent frame.
    """

    first: Float[Any, "R H W layers A"]
    later: Float[Any, "R H G V layers A"]


class SpokenTokens(NamedTuple):
    """The sound of a clip, as all blocks take it.

    Attributes:
      tokens: those of the first speaker first.
      seen: which of a frame's a row has; all where None.
      positions: of a frame's tokens on the speakers' axis; None where there is one speaker, who needs none.
    """

    tokens: Float[Array, "R F S E"]
    seen: Bool[Array, "R S"] | None = None
    positions: Float[Array, "R S"] | None = None


class AudioProjector(nnx.Module):
    """Hidden states of a window to the audio tokens of a latent frame."""

    def __init__(self, config: MultiTalkConfig, *, rngs: nnx.Rngs, dtype, param_dtype):
        kwargs: dict[str, Any] = dict(
            kernel_init=nnx.initializers.xavier_uniform(), rngs=rngs, dtype=dtype, param_dtype=param_dtype
        )
        width, hidden, dim = config.audio_layers * config.audio_dim, config.audio_hidden, config.audio_token_dim
        self.token_dim = dim
        self.first = nnx.Linear(config.audio_window * width, hidden, **kwargs)
        self.later = nnx.Linear(config.group_window * width, hidden, **kwargs)
        self.middle = nnx.Linear(hidden, hidden, **kwargs)
        self.last = nnx.Linear(hidden, config.audio_tokens * dim, **kwargs)
        self.norm = layer_norm(dim, _NORM_EPS, affine=True, rngs=rngs, param_dtype=param_dtype)

    def __call__(self, windows: AudioWindows) -> Float[Array, "R F S E"]:
        first = self.first(rearrange(windows.first, "r h w layers a -> r h 1 (w layers a)"))
        later = self.later(rearrange(windows.later, "r h f w layers a -> r h f (w layers a)"))
        hidden = nnx.relu(self.middle(nnx.relu(jnp.concatenate([first, later], axis=2))))
        tokens = rearrange(self.last(hidden), "r h f (t e) -> r h f t e", e=self.token_dim)
        return rearrange(self.norm(tokens), "r h f t e -> r f (h t) e")


class AudioCrossAttention(nnx.Module):
    """Attention of a latent frame's tokens to its own audio tokens; of several speakers', by rotary positions that
    bring each speaker's sound close to the tokens that show them (L-RoPE)."""

    def __init__(self, config: MultiTalkConfig, attention: Attention, *, rngs: nnx.Rngs, dtype, param_dtype):
        linear: dict[str, Any] = dict(
            kernel_init=nnx.initializers.xavier_uniform(), rngs=rngs, dtype=dtype, param_dtype=param_dtype
        )
        dim = config.trunk.dim
        self.num_heads, self.dtype, self.attention = config.trunk.num_heads, dtype, attention
        self.q = Linear(dim, dim, **linear)
        self.kv = Linear(config.audio_token_dim, 2 * dim, **linear)
        self.o = Linear(dim, dim, **linear)

    def __call__(
        self, x: Float[Array, "R L D"], speech: SpokenTokens, positions: Float[Array, "R L"] | None, frame: int
    ) -> Float[Array, "R L D"]:
        """What to add to the tokens.

        Args:
          positions: of the tokens on the speakers' axis; None where there is one speaker.
          frame: tokens of a latent frame.
        """
        layout, frames = self.attention.layout, speech.tokens.shape[1]
        q = rearrange(self.q(enter(layout, x, self.dtype)), "r l (n k) -> r l n k", n=self.num_heads)
        k, v = rearrange(self.kv(speech.tokens), "r f s (two n k) -> two r (f s) n k", two=2, n=self.num_heads)
        if positions is not None and speech.positions is not None:
            of_keys = repeat(speech.positions, "r s -> r (f s)", f=frames)
            q = apply_rope(q, line_tables(positions, q.shape[-1])).astype(self.dtype)
            k = apply_rope(k, line_tables(of_keys, q.shape[-1])).astype(self.dtype)
        q = layout.constrain(q, "batch", "tokens", "heads", None)
        k, v = (layout.constrain(y, "batch", None, "heads", None) for y in (k, v))
        k, v = (rearrange(y, "r (f s) n k -> r f s n k", f=frames) for y in (k, v))
        out = self.attention.frame_attention(q, k, v, speech.seen, frame)
        return leave(layout, self.o(rearrange(out, "r l n k -> r l (n k)")))
