"""TalkVerse: the Wan trunk driven by sound, a reference picture and packed motion.

The sequence is noisy tokens, then reference tokens, then motion tokens (none in a first clip), then padding where
it is split over devices that do not divide it:

    prepare(text, audio, reference, motion) -> ClipConditions    once a clip
    velocity(latents, timestep, conditions) -> velocity          once a step

Shapes: B batch, F latent frames, h w latent grid, C latent channels, D width, N heads, K head width,
S noisy tokens, M clean tokens, L all tokens with padding, T audio rows (4 a latent frame), A audio width.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange
from flax import nnx
from jaxtyping import Array, Float, Int

from talkverse_jax.families.talkverse.audio import AudioInjection, AudioInjector, CausalAudioEncoder
from talkverse_jax.families.talkverse.axes import AXES
from talkverse_jax.families.talkverse.config import TalkVerseConfig
from talkverse_jax.families.talkverse.motion import FramePacker, motion_positions
from talkverse_jax.families.talkverse.run import Run, RunConditions
from talkverse_jax.models.wan.attention import KeyValues
from talkverse_jax.models.wan.block import Block, Head
from talkverse_jax.models.wan.embeddings import PatchEmbedding, TextEmbedding, TimeEmbedding, unpatchify
from talkverse_jax.ops.attention import Attention
from talkverse_jax.ops.names import KernelName, Remat
from talkverse_jax.ops.remat import rematerialised
from talkverse_jax.ops.rope import RopeTables, grid_positions, rope_tables
from talkverse_jax.sharding.layout import Layout, check_divides

NOISY, REFERENCE, MOTION = range(3)  # rows of the token-kind embedding
REFERENCE_FRAME = 40  # the reference picture's place on the frame axis

Tap = Callable[[str, Array], None]


class ClipConditions(NamedTuple):
    """All that a clip's steps share. Made by `TalkVerse.prepare`."""

    runs: tuple[RunConditions, ...]  # text and audio of every block and injection
    clean_tokens: Float[Array, "B M D"]  # reference and motion, float32
    clean_time: Float[Array, "B 6 D"]  # modulation of the clean tokens: timestep 0
    rope: RopeTables


def _no_tap(name: str, value: Array) -> None:
    pass


class TalkVerse(nnx.Module):
    """The diffusion transformer.

    Args:
      dtype: of matrix products and attention; the residual stream, norms and modulation stay float32.
      layout: how all arrays are split over devices.
      kernel: of every attention.
      scan: compile blocks of one shape once; by default everywhere but on a CPU (see `run`).
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
        layout: Layout = Layout(),
        kernel: KernelName = "auto",
        scan: bool | None = None,
        remat: Remat = "none",
        part_at: int = 0,
    ):
        check_divides("ffn_dim", config.trunk.ffn_dim, layout, "hidden")
        check_divides("dim", config.trunk.dim, layout, "width")
        attention = Attention(layout, kernel)
        trunk, kwargs = config.trunk, dict(rngs=rngs, dtype=dtype, param_dtype=param_dtype)
        self.config = config
        self.layout = layout
        self.remat = remat
        self.patch_embedding = PatchEmbedding(trunk.patch_size, trunk.in_channels, trunk.dim, **kwargs)
        self.text_embedding = TextEmbedding(trunk, **kwargs)
        self.time_embedding = TimeEmbedding(trunk, rngs=rngs, param_dtype=param_dtype)
        scan = layout.platform != "cpu" if scan is None else scan
        self.runs = nnx.List(Run(config, shape, attention, **kwargs) for shape in config.runs(scan, part_at))
        self.head = Head(trunk, rngs=rngs, param_dtype=param_dtype)
        self.audio_encoder = CausalAudioEncoder(config, rngs=rngs, param_dtype=param_dtype)
        self.frame_packer = FramePacker(trunk, **kwargs)
        self.token_kind = nnx.Param(jnp.zeros((3, trunk.dim), param_dtype))

    def prepare(
        self,
        text: Float[Array, "B text_len text_dim"],
        audio: Float[Array, "B T layers A"],
        reference: Float[Array, "B 1 h w C"],
        motion: Float[Array, "B 19 h w C"] | None,
        tap: Tap = _no_tap,
    ) -> ClipConditions:
        """Compute once what every step of a clip needs.

        Args:
          text: hidden states; missing rows are zeros. audio: wav2vec2 hidden states of the clip's T = 4F
          frames. reference, motion: normalised latents; no motion tokens where `motion` is None.
        """
        height, width = reference.shape[2:4]
        self = self.layout.gathered(self, AXES)  # but for the runs, which do so as they go
        text, audio, reference, motion = jax.tree.map(self._by_branch, (text, audio, reference, motion))
        context = self._by_branch(self.text_embedding(text))
        sound = jax.tree.map(self._by_branch, self._encode_audio(audio, tap))
        tokens = [self._embed(reference, REFERENCE)]
        positions = [
            _grid(audio.shape[1] // 4, height, width),
            _grid(1, height, width) + np.array([REFERENCE_FRAME, 0, 0]),
        ]
        if motion is not None:
            packed = self._by_branch(self.frame_packer(motion).astype(jnp.float32))
            tap("motion_tokens", packed)
            tokens.append(packed + self._kind(MOTION))
            positions.append(motion_positions(height, width))
        tables = rope_tables(np.concatenate(positions), self.config.trunk.head_dim)
        length = self._padded(len(tables.cos))
        rope = RopeTables(
            *(self.layout.constrain(jnp.pad(t, ((0, length - len(t)), (0, 0))), "tokens", None) for t in tables)
        )
        _, clean_time = self.time_embedding(jnp.zeros((1,), jnp.float32))
        tap("text_embedding", context)
        for name, table in (("rope_real", tables.cos), ("rope_imag", tables.sin)):
            tap(name, jnp.broadcast_to(table[None, :, None], (len(reference), len(table), 1, table.shape[1])))
        return ClipConditions(
            runs=tuple(run.prepare(context, sound, self.remat) for run in self.runs),
            clean_tokens=self._by_branch(jnp.concatenate(tokens, axis=1)),
            clean_time=self.layout.constrain(clean_time, None, None, None),
            rope=rope,
        )

    def velocity(
        self,
        latents: Float[Array, "B F h w C"],
        timestep: Float[Array, " B"],
        conditions: ClipConditions,
        tap: Tap = _no_tap,
    ) -> Float[Array, "B F h w C"]:
        """The flow's velocity at `latents`, noise minus data, float32.

        Args:
          timestep: in [0, 1000].
          tap: called with the values on the way, by the names of the reference bundles.
        """
        self = self.layout.gathered(self, AXES)  # but for the runs, which do so as they go
        constrain = self.layout.constrain
        grid = self.patch_embedding.grid(latents)
        noisy = int(np.prod(grid))
        tokens = noisy + conditions.clean_tokens.shape[1]
        # Every device picks its own tokens out of what is small and whole on all of them.
        place = constrain(jnp.arange(self._padded(tokens)), "tokens")
        clean, frame = place >= noisy, jnp.where(place < noisy, place // (grid[1] * grid[2]), 0)
        patches = self._by_branch(self.patch_embedding.patches(latents))
        embedded = self.patch_embedding.embed(constrain(_rows(patches, place), "batch", "tokens", None))
        tap("patch_embedding", rearrange(embedded[:, :noisy], "b (f y x) d -> b d f y x", f=grid[0], y=grid[1]))
        x = jnp.where(
            clean[:, None],
            _rows(conditions.clean_tokens, place - noisy),
            embedded.astype(jnp.float32) + self._kind(NOISY),
        )
        x = constrain(x, "batch", "stream", None)

        time, noisy_time = map(self._by_branch, self.time_embedding(timestep))
        clean_time = jnp.broadcast_to(conditions.clean_time, noisy_time.shape)
        tap("time_projection", rearrange(jnp.concatenate([noisy_time, clean_time[:1]]), "b six d -> b (six d)"))
        time_vectors = jnp.stack([noisy_time, clean_time], axis=1)

        # Gathered in here, so that a backward pass gathers once more instead of keeping whole weights.
        def run_block(block: Block, x: Array, text: KeyValues) -> Array:
            block = self.layout.gathered(block, AXES)
            modulation = block.name_modulation(time_vectors)
            x = block.attend_self(x, modulation.attention, clean, conditions.rope, tokens)
            x = block.attend_context(x, text)
            return block.feed_forward(x, modulation.feed_forward, clean)

        def inject(injector: AudioInjector, x: Array, audio: AudioInjection) -> Array:
            injector = self.layout.gathered(injector, AXES)
            return x + jnp.where(clean[:, None], 0, injector(x, audio, frame))

        run_block, inject = (rematerialised(stage, self.remat) for stage in (run_block, inject))
        for run, of_run in zip(self.runs, conditions.runs):
            x = run(x, of_run, run_block, inject, tap=lambda name, x: tap(name, x[:, :tokens]))
        patches = self._by_branch(self.head(x, time))[:, :noisy]
        return unpatchify(patches, grid, self.config.trunk.patch_size)

    def _padded(self, tokens: int) -> int:
        """The length of a sequence of `tokens` that divides evenly among the devices."""
        parts = self.layout.parts("stream")
        return -(-tokens // parts) * parts

    def _by_branch(self, x: Float[Array, "B ..."]) -> Float[Array, "B ..."]:
        """Whole on every device of a branch: what is small, or what all its tokens need."""
        return self.layout.constrain(x, "batch", *[None] * (x.ndim - 1))

    def _encode_audio(self, audio: Float[Array, "B T layers A"], tap: Tap):
        """Tokens of the clip's own frames; the motion frames before it hear its first row."""
        history = jnp.repeat(audio[:, :1], self.config.motion_frames, axis=1)
        sound = self.audio_encoder(jnp.concatenate([history, audio], axis=1))
        tap("audio_global_all", sound.summary[:, :, None])
        tap("audio_tokens_all", sound.tokens)
        return type(sound)(*(rows[:, self.config.motion_latent_frames :] for rows in sound))

    def _embed(self, latents: Float[Array, "B F h w C"], kind: int) -> Float[Array, "B S D"]:
        return self._by_branch(self.patch_embedding(latents).astype(jnp.float32)) + self._kind(kind)

    def _kind(self, kind: int) -> Float[Array, " D"]:
        return self.token_kind.get_value()[kind].astype(jnp.float32)


def _rows(x: Float[Array, "B N D"], index: Int[Array, " L"]) -> Float[Array, "B L D"]:
    """Row `index` of each; the nearest one where there is none."""
    return jnp.take(x, jnp.clip(index, 0, x.shape[1] - 1), axis=1)


def _grid(frames: int, height: int, width: int) -> np.ndarray:
    """Positions of the tokens of `frames` latent frames of h x w, two rows and columns a token."""
    return grid_positions(np.arange(frames), np.arange(height // 2), np.arange(width // 2))
