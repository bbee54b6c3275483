"""MultiTalk: Wan2.1's image-to-video transformer, in which several people speak.

    prepare(text, image, known, sound, ...) -> MultiTalkConditions     once a clip
    velocity(latents, timestep, conditions) -> velocity           once a step

Shapes: R rows (videos by branch of guidance), F latent frames, h w latent grid, C latent channels, Y known channels,
L tokens, D width, I tokens of a picture, S audio tokens of a latent frame, E their width, Q speakers and the
background.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from talkverse_jax.families.multitalk.audio import AudioProjector, AudioWindows, SpokenTokens
from talkverse_jax.families.multitalk.axes import AXES, CONDITION_AXES
from talkverse_jax.families.multitalk.block import Scene, SpeakingBlock
from talkverse_jax.families.multitalk.config import BLOCK, MultiTalkConfig
from talkverse_jax.models.wan import blocks
from talkverse_jax.models.wan.block import Head
from talkverse_jax.models.wan.embeddings import (
    ImageEmbedding,
    PatchEmbedding,
    TextEmbedding,
    TimeEmbedding,
    unpatchify,
)
from talkverse_jax.models.wan.layers import residual
from talkverse_jax.models.wan.sequence import padded_rope, pick_rows, places
from talkverse_jax.models.wan.taps import NO_TAPS, Taps
from talkverse_jax.ops.attention import Attention
from talkverse_jax.ops.names import KernelName, Remat
from talkverse_jax.ops.rope import grid_positions, rope_tables
from talkverse_jax.sharding.fields import first_rows
from talkverse_jax.sharding.layout import Layout, check_divides


class MultiTalkConditions(NamedTuple):
    """All that a clip's steps share. Made by `MultiTalk.prepare`."""

    runs: blocks.Conditions  # text and picture of every block
    known: Float[Array, "R F h w Y"]
    scene: Scene


class MultiTalk(nnx.Module):
    """The diffusion transformer.

    Args:
      dtype: of matrix products and attention; norms and modulation stay float32.
      residual_dtype: of the stream between the stages of blocks.
      layout: how all arrays are split over devices.
      kernel: of every attention but that to sound.
      scan: compile blocks of one shape once; by default everywhere but on a CPU (see `models.wan.blocks`).
      remat: what a gradient's backward pass finds kept of a block, and what it computes again.
      part_at: blocks before and from this one are compiled apart, so that these alone can be trained.
    """

    def __init__(
        self,
        config: MultiTalkConfig,
        *,
        rngs: nnx.Rngs,
        dtype=jnp.float32,
        param_dtype=jnp.float32,
        residual_dtype=jnp.float32,
        layout: Layout = Layout(),
        kernel: KernelName = "auto",
        scan: bool | None = None,
        remat: Remat = "none",
        part_at: int = 0,
    ):
        trunk = config.trunk
        check_divides("ffn_dim", trunk.ffn_dim, layout, "hidden")
        check_divides("dim", trunk.dim, layout, "width")
        dtypes, attention = dict(dtype=dtype, param_dtype=param_dtype), Attention(layout, kernel)
        make = {BLOCK: lambda rngs: SpeakingBlock(config, attention, rngs=rngs, **dtypes)}
        groups = [(f"{BLOCK}/{number}",) for number in range(trunk.num_layers)]
        compiled: dict[str, Any] = dict(layout=layout, axes=AXES, scan=scan, remat=remat, part_at=part_at)
        self.config, self.layout, self.dtype, self.residual_dtype = config, layout, dtype, residual_dtype
        self.patch_embedding = PatchEmbedding(trunk.patch_size, trunk.in_channels, trunk.dim, rngs=rngs, **dtypes)
        self.text_embedding = TextEmbedding(trunk, rngs=rngs, **dtypes)
        self.image_embedding = ImageEmbedding(config.image_dim, trunk.dim, rngs=rngs, **dtypes)
        self.time_embedding = TimeEmbedding(trunk, rngs=rngs, param_dtype=param_dtype)
        self.audio_projector = AudioProjector(config, rngs=rngs, **dtypes)
        self.runs = blocks.make_runs(groups, make, rngs=rngs, **compiled)
        self.head = Head(trunk, rngs=rngs, param_dtype=param_dtype)

    @blocks.whole_weights(AXES)
    def prepare(
        self,
        text: Float[Array, "R text_len text_dim"],
        image: Float[Array, "R I image_dim"],
        known: Float[Array, "R F h w Y"],
        sound: AudioWindows,
        speakers: Float[Array, "R Q h w"] | None = None,
        alone: Bool[Array, " R"] | None = None,
        taps: Taps = NO_TAPS,
    ) -> MultiTalkConditions:
        """Compute once what every step of a clip needs.

        Args:
          text: hidden states; missing rows are zeros.
          image: CLIP's tokens of the picture that is seen.
          known: which frames are known, and the latents of these frames before grey.
          sound: of every speaker.
          speakers: who is where in the first frame, as masks on the latent grid of each speaker and then the
            background; who is nowhere is not heard. Not needed for one speaker.
          alone: rows in which the first speaker alone is heard, as if there were no other: the branch without sound.
        """
        text, image, known, sound, speakers = jax.tree.map(self._by_branch, (text, image, known, sound, speakers))
        words, picture = self._by_branch(self.text_embedding(text)), self._by_branch(self.image_embedding(image))
        tokens = self._by_branch(self.audio_projector(sound))
        taps.keep("clip_tokens", picture)
        taps.keep("audio_tokens", tokens)
        tables = rope_tables(grid_positions(*map(range, self.patch_embedding.grid(known))), self.config.trunk.head_dim)
        scene = self._scene(tokens.astype(self.dtype), sound.first.shape[1], speakers, alone)
        context = {BLOCK: lambda block: block.cross_attn.contexts(words, picture.astype(self.dtype))}
        return MultiTalkConditions(
            blocks.prepare(self.runs, context), known, scene._replace(rope=padded_rope(tables, self.layout))
        )

    def velocity(
        self,
        latents: Float[Array, "R F h w C"],
        timestep: Float[Array, " R"],
        conditions: MultiTalkConditions,
        taps: Taps = NO_TAPS,
    ) -> Float[Array, "R F h w C"]:
        """The flow's velocity at `latents`, noise minus data, float32; `timestep` is in [0, 1000]."""
        return self.cached_velocity(latents, timestep, conditions, None, taps)[0]

    @blocks.whole_weights(AXES)
    def cached_velocity(
        self,
        latents: Float[Array, "R F h w C"],
        timestep: Float[Array, " R"],
        conditions: MultiTalkConditions,
        cache: Float[Array, "R L D"] | None,
        taps: Taps = NO_TAPS,
    ) -> tuple[Float[Array, "R F h w C"], Float[Array, "R L D"]]:
        """The velocity, and what the blocks added to the tokens, which `cache` brings back in their place."""
        grid = frames, rows, columns = self.patch_embedding.grid(latents)
        tokens, frame, constrain = frames * rows * columns, rows * columns, self.layout.constrain
        seen = jnp.concatenate([latents.astype(jnp.float32), conditions.known.astype(jnp.float32)], axis=-1)
        patches = pick_rows(self._by_branch(self.patch_embedding.patches(seen)), places(tokens, self.layout))
        embedded = self.patch_embedding.embed(constrain(patches, "batch", "tokens", None))
        x = constrain(embedded.astype(self.residual_dtype), "batch", "stream", None)
        time, vectors = map(self._by_branch, self.time_embedding(timestep))

        def run(block: SpeakingBlock, x, context):
            return block(x, block.modulation_at(vectors[:, None]), context, conditions.scene, tokens, frame)

        if cache is None:
            after = blocks.through(self.runs, x, conditions.runs, {BLOCK: run}, taps)
            added = (after.astype(jnp.float32) - x).astype(self.dtype)
        else:
            after, added = residual(x, cache.astype(jnp.float32)), cache
        out = self._by_branch(self.head(after, time))[:, :tokens]
        return unpatchify(out, grid, self.patch_embedding.patch), added

    def first_rows(self, conditions: MultiTalkConditions, rows: int) -> MultiTalkConditions:
        """The conditions of the first rows alone."""
        return first_rows(conditions, rows, CONDITION_AXES)

    def _scene(
        self,
        tokens: Float[Array, "R F S E"],
        count: int,
        speakers: Float[Array, "R Q h w"] | None,
        alone: Bool[Array, " R"] | None,
    ) -> Scene:
        """But for the positions in the video."""
        rope: Any = None
        if count == 1:
            return Scene(rope, SpokenTokens(tokens), None, None)
        if speakers is None:
            raise ValueError(f"{count} speakers: give the masks of who is where")
        _, step, across = self.config.trunk.patch_size
        rows, columns = (n // p for n, p in zip(speakers.shape[2:], (step, across)))
        shown = speakers[:, :, : rows * step : step, : columns * across : across] > 0
        there = speakers[:, :-1].max(axis=(2, 3)) > 0  # fewer than `count` in some samples of a batch
        alone = jnp.zeros(tokens.shape[0], bool) if alone is None else alone
        own = jnp.arange(tokens.shape[2]) // self.config.audio_tokens  # the speaker of each audio token
        middles = jnp.asarray([(low + high) / 2 for low, high in self.config.ranges(count)], jnp.float32)[own]
        turned = 1 - alone.astype(jnp.float32)
        seen = there[:, own] & ~alone[:, None] | (own == 0)[None]
        speech = SpokenTokens(tokens, seen, middles[None] * turned[:, None])
        return Scene(rope, speech, shown.reshape(*shown.shape[:2], -1).astype(jnp.float32), turned)

    def _by_branch(self, x: Float[Array, "R ..."]) -> Float[Array, "R ..."]:
        """Whole on every device of a branch: what is small, or what all its tokens need."""
        return self.layout.constrain(x, "batch", *[None] * (x.ndim - 1))
