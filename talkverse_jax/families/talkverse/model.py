"""TalkVerse: the Wan trunk driven by sound, a reference picture and packed motion.

    prepare(text, audio, reference, motion) -> ClipConditions    once a clip
    velocity(latents, timestep, conditions) -> velocity          once a step

Shapes: B batch, F latent frames, h w latent grid, C latent channels, D width, N heads, K head width,
M clean tokens (reference and motion; no motion in a first clip), T audio rows (one a frame), A audio width.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from talkverse_jax.families.talkverse.audio import AudioInjector, AudioTokens, CausalAudioEncoder
from talkverse_jax.families.talkverse.axes import AXES, CONDITION_AXES
from talkverse_jax.families.talkverse.config import BLOCK, INJECTOR, TalkVerseConfig
from talkverse_jax.families.talkverse.motion import FramePacker, motion_positions
from talkverse_jax.families.talkverse.sequence import TokenSequence
from talkverse_jax.models.wan import blocks
from talkverse_jax.models.wan.block import Block, Head
from talkverse_jax.models.wan.embeddings import PatchEmbedding, TextEmbedding, TimeEmbedding, unpatchify
from talkverse_jax.models.wan.layers import residual
from talkverse_jax.models.wan.sequence import padded_rope
from talkverse_jax.models.wan.taps import NO_TAPS, Taps
from talkverse_jax.ops.attention import Attention
from talkverse_jax.ops.names import KernelName, Remat
from talkverse_jax.ops.rope import RopeTables, grid_positions, rope_tables
from talkverse_jax.sharding.fields import first_rows
from talkverse_jax.sharding.layout import Layout, check_divides

NOISY, REFERENCE, MOTION = range(3)  # rows of the token-kind embedding
REFERENCE_FRAME = 40  # the reference picture's place on the frame axis


class ClipConditions(NamedTuple):
    """All that a clip's steps share. Made by `TalkVerse.prepare`."""

    runs: blocks.Conditions  # text and audio of every block and injection
    clean_tokens: Float[Array, "B M D"]  # reference and motion, float32
    clean_time: Float[Array, "B 6 D"]  # modulation of the clean tokens: timestep 0
    rope: RopeTables


class TalkVerse(nnx.Module):
    """The diffusion transformer.

    Args:
      dtype: of matrix products and attention; norms and modulation stay float32.
      residual_dtype: of the stream between the stages of blocks.
      layout: how all arrays are split over devices.
      kernel: of every attention.
      scan: compile blocks of one shape once; by default everywhere but on a CPU (see `models.wan.blocks`).
      remat: what a gradient's backward pass finds kept of a block, and what it computes again.
      part_at: blocks before and from this one are compiled apart, so that these alone can be trained.
    """

    def __init__(
        self,
        config: TalkVerseConfig,
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
        check_divides("ffn_dim", config.trunk.ffn_dim, layout, "hidden")
        check_divides("dim", config.trunk.dim, layout, "width")
        trunk, dtypes, attention = config.trunk, dict(dtype=dtype, param_dtype=param_dtype), Attention(layout, kernel)
        make = {
            BLOCK: lambda rngs: Block(trunk, attention, rngs=rngs, **dtypes),
            INJECTOR: lambda rngs: AudioInjector(config, attention, rngs=rngs, **dtypes),
        }
        compiled: dict[str, Any] = dict(layout=layout, axes=AXES, scan=scan, remat=remat, part_at=part_at)
        self.config, self.layout, self.residual_dtype = config, layout, residual_dtype
        self.patch_embedding = PatchEmbedding(trunk.patch_size, trunk.in_channels, trunk.dim, rngs=rngs, **dtypes)
        self.text_embedding = TextEmbedding(trunk, rngs=rngs, **dtypes)
        self.time_embedding = TimeEmbedding(trunk, rngs=rngs, param_dtype=param_dtype)
        self.runs = blocks.make_runs(config.layers, make, rngs=rngs, **compiled)
        self.head = Head(trunk, rngs=rngs, param_dtype=param_dtype)
        self.audio_encoder = CausalAudioEncoder(config, rngs=rngs, param_dtype=param_dtype)
        self.frame_packer = FramePacker(trunk, rngs=rngs, **dtypes)
        self.token_kind = nnx.Param(jnp.zeros((3, trunk.dim), param_dtype))

    @blocks.whole_weights(AXES)
    def prepare(
        self,
        text: Float[Array, "B text_len text_dim"],
        audio: Float[Array, "B T layers A"],
        reference: Float[Array, "B 1 h w C"],
        motion: Float[Array, "B 19 h w C"] | None,
        taps: Taps = NO_TAPS,
    ) -> ClipConditions:
        """Compute once what every step of a clip needs.

        Args:
          text: hidden states; missing rows are zeros. audio: wav2vec2 hidden states of the clip's T frames.
          reference, motion: normalised latents; no motion tokens where `motion` is None.
        """
        text, audio, reference, motion = jax.tree.map(self._by_branch, (text, audio, reference, motion))
        context = self._by_branch(self.text_embedding(text))
        sound = jax.tree.map(self._by_branch, self._hear(audio, taps))
        picture = self._by_branch(self.patch_embedding(reference).astype(jnp.float32))
        tokens = [picture + self._kind(REFERENCE)]
        frames, (_, rows, columns) = audio.shape[1] // self.config.time_stride, self.patch_embedding.grid(reference)
        positions = [grid_positions(range(frames), range(rows), range(columns))]
        positions.append(grid_positions([REFERENCE_FRAME], range(rows), range(columns)))
        if motion is not None:
            packed = self._by_branch(self.frame_packer(motion).astype(jnp.float32))
            taps.keep("motion_tokens", packed)
            tokens.append(packed + self._kind(MOTION))
            height, width = motion.shape[2:4]
            positions.append(motion_positions((height, width), self.config.trunk.patch_size))
        _, clean_time = self.time_embedding(jnp.zeros((1,), jnp.float32))
        taps.keep("text_embedding", context)
        prepare = {BLOCK: lambda block: block.cross_attn.key_values(context), INJECTOR: lambda it: it.prepare(sound)}
        return ClipConditions(
            runs=blocks.prepare(self.runs, prepare),
            clean_tokens=self._by_branch(jnp.concatenate(tokens, axis=1)),
            clean_time=self.layout.constrain(clean_time, None, None, None),
            rope=self._rope(np.concatenate(positions), taps),
        )

    @blocks.whole_weights(AXES)
    def velocity(
        self,
        latents: Float[Array, "B F h w C"],
        timestep: Float[Array, " B"],
        conditions: ClipConditions,
        taps: Taps = NO_TAPS,
    ) -> Float[Array, "B F h w C"]:
        """The flow's velocity at `latents`, noise minus data, float32; `timestep` is in [0, 1000]."""
        constrain, grid = self.layout.constrain, self.patch_embedding.grid(latents)
        sequence = TokenSequence.make(grid, conditions.clean_tokens.shape[1], self.layout)
        patches = sequence.noisy_rows(self._by_branch(self.patch_embedding.patches(latents)))
        embedded = self.patch_embedding.embed(constrain(patches, "batch", "tokens", None))
        taps.keep("patch_embedding", embedded)
        noisy, clean = embedded.astype(jnp.float32) + self._kind(NOISY), sequence.clean_rows(conditions.clean_tokens)
        x = constrain(sequence.by_kind(noisy, clean).astype(self.residual_dtype), "batch", "stream", None)

        time, noisy_time = map(self._by_branch, self.time_embedding(timestep))
        clean_time = jnp.broadcast_to(conditions.clean_time, noisy_time.shape)
        time_vectors = jnp.stack([noisy_time, clean_time], axis=1)
        taps.keep("time_projection", time_vectors)

        def run_block(block: Block, x, text):
            modulation = sequence.modulation(block.modulation_at(time_vectors))
            return block(x, modulation, text, conditions.rope, sequence.tokens)

        def inject(injector: AudioInjector, x, audio):
            x, found = injector(x, audio, sequence.frame)
            return residual(x, sequence.by_kind(found, 0.0))

        x = blocks.through(self.runs, x, conditions.runs, {BLOCK: run_block, INJECTOR: inject}, taps)
        patches = self._by_branch(self.head(x, time))[:, : sequence.noisy]
        return unpatchify(patches, grid, self.patch_embedding.patch)

    def first_rows(self, conditions: ClipConditions, rows: int) -> ClipConditions:
        """The conditions of the first rows alone."""
        return first_rows(conditions, rows, CONDITION_AXES)

    def _hear(self, audio: Float[Array, "B T layers A"], taps: Taps) -> AudioTokens:
        """Tokens of the clip's own frames; the motion frames before it hear its first row."""
        history = jnp.repeat(audio[:, :1], self.config.motion_frames, axis=1)
        sound = self.audio_encoder(jnp.concatenate([history, audio], axis=1))
        taps.keep("audio_summary", sound.summary)
        taps.keep("audio_tokens", sound.tokens)
        return type(sound)(*(rows[:, self.config.motion_latent_frames :] for rows in sound))

    def _rope(self, positions: np.ndarray, taps: Taps) -> RopeTables:
        tables = rope_tables(positions, self.config.trunk.head_dim)
        for name, table in zip(("rope_cos", "rope_sin"), tables):
            taps.keep(name, table)
        return padded_rope(tables, self.layout)

    def _by_branch(self, x: Float[Array, "B ..."]) -> Float[Array, "B ..."]:
        """Whole on every device of a branch: what is small, or what all its tokens need."""
        return self.layout.constrain(x, "batch", *[None] * (x.ndim - 1))

    def _kind(self, kind: int) -> Float[Array, " D"]:
        return self.token_kind.get_value()[kind].astype(jnp.float32)
