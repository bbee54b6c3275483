"""A Wan block that also listens.

Shapes: R rows, L tokens, D width, C speakers and the background, P tokens of a latent frame.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from talkverse_jax.families.multitalk.audio import AudioCrossAttention, SpokenTokens
from talkverse_jax.families.multitalk.config import MultiTalkConfig
from talkverse_jax.families.multitalk.speakers import reference_map, speaker_positions
from talkverse_jax.models.wan.attention import ImageContext, ImageCrossAttention, Projected
from talkverse_jax.models.wan.block import Block
from talkverse_jax.models.wan.layers import residual
from talkverse_jax.models.wan.modulation import BlockModulation
from talkverse_jax.ops.attention import Attention
from talkverse_jax.ops.modulate import picked
from talkverse_jax.ops.norm import layer_norm
from talkverse_jax.ops.rope import RopeTables


class Scene(NamedTuple):
    """What all blocks need of a clip besides its text and picture.

    Attributes:
      speech: its sound.
      places: who is where in the first frame: 1 where a token shows a speaker or, last, none; None where there is one
        speaker, or where nobody needs to know.
      turned: 1 where a row's tokens turn by their speaker, 0 where one speaker is heard.
    """

    rope: RopeTables
    speech: SpokenTokens
    places: Float[Array, "R C P"] | None
    turned: Float[Array, " R"] | None


class SpeakingBlock(Block):
    """Self-attention, cross-attention to text and picture, attention to sound, feed-forward; each a residual stage."""

    cross_attention = ImageCrossAttention
    cross_attn: ImageCrossAttention  # pyright: ignore[reportIncompatibleVariableOverride]  # made by the line above

    def __init__(self, config: MultiTalkConfig, attention: Attention, *, rngs: nnx.Rngs, dtype, param_dtype):
        trunk, kwargs = config.trunk, dict(rngs=rngs, dtype=dtype, param_dtype=param_dtype)
        super().__init__(trunk, attention, rngs=rngs, dtype=dtype, param_dtype=param_dtype)
        self.config, self.attention, self.dtype = config, attention, dtype
        self.norm_x = layer_norm(trunk.dim, trunk.eps, affine=True, rngs=rngs, param_dtype=param_dtype)
        self.audio_cross_attn = AudioCrossAttention(config, attention, **kwargs)

    def __call__(  # pyright: ignore[reportIncompatibleMethodOverride]  # it listens besides
        self,
        x: Float[Array, "R L D"],
        modulation: BlockModulation,
        context: ImageContext,
        scene: Scene,
        tokens: int,
        frame: int,
    ) -> Float[Array, "R L D"]:
        """The stream after the block.

        Args:
          modulation: of `modulation_at`, with the tokens' segments.
          tokens: how many of the L there are; those after them are padding.
          frame: tokens of a latent frame.
        """
        attention, feed_forward, segment = modulation
        x, entering = self.modulated(self.norm1, x, attention, segment)
        projected = self.self_attn.project(entering, scene.rope)
        x = residual(x, self.self_attn.attend(projected, tokens) * picked(attention.gate, segment))
        x, entering = self.normed(self.norm3, x)
        x = residual(x, self.cross_attn(entering, context))
        positions = self.positions(projected, scene, tokens)
        x, entering = self.normed(self.norm_x, x)
        x = residual(x, self.audio_cross_attn(entering, scene.speech, positions, frame))
        x, entering = self.modulated(self.norm2, x, feed_forward, segment)
        return residual(x, self.ffn(entering) * picked(feed_forward.gate, segment))

    def positions(self, projected: Projected, scene: Scene, tokens: int) -> Float[Array, "R L"] | None:
        """Of the tokens on the speakers' axis."""
        if scene.places is None or scene.turned is None:
            return None
        found = reference_map(self.attention, projected.queries, projected.keys, scene.places)
        ranges = self.config.ranges(scene.places.shape[1] - 1)
        placed = speaker_positions(found, tokens, ranges, self.config.background, self.dtype)
        return placed.astype(jnp.float32) * scene.turned[:, None]

    def adaptable(self) -> list[Any]:
        """The layers that LoRA adapts: those of the trunk's blocks, the picture's keys, and of the sound's attention
        queries and result."""
        listening = self.audio_cross_attn
        return [*super().adaptable(), self.cross_attn.k_img, listening.q, listening.o]
