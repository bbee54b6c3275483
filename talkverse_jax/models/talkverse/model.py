"""TalkVerse: the Wan trunk driven by sound, a reference picture and packed motion.

The sequence is noisy tokens, then reference tokens, then motion tokens (none in a first clip):

    prepare(text, audio, reference, motion) -> ClipConditions    once a clip
    velocity(latents, timestep, conditions) -> velocity          once a step

Shapes: B batch, F latent frames, h w latent grid, C latent channels, D width, N heads, K head width,
S noisy tokens, L all tokens, T audio rows (4 a latent frame), A audio width.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from einops import rearrange
from flax import nnx
from jaxtyping import Array, Float

from talkverse_jax.models.talkverse.audio import AudioInjection, AudioInjector, CausalAudioEncoder
from talkverse_jax.models.talkverse.config import TalkVerseConfig
from talkverse_jax.models.talkverse.motion import FramePacker, motion_positions
from talkverse_jax.models.wan.attention import KeyValues
from talkverse_jax.models.wan.block import Block, Head
from talkverse_jax.models.wan.embeddings import PatchEmbedding, TextEmbedding, TimeEmbedding, unpatchify
from talkverse_jax.ops.attention import Attention, default_attention
from talkverse_jax.ops.rope import RopeTables, grid_positions, rope_tables

NOISY, REFERENCE, MOTION = range(3)  # rows of the token-kind embedding
REFERENCE_FRAME = 40  # the reference picture's place on the frame axis

Tap = Callable[[str, Array], None]


class ClipConditions(NamedTuple):
    """All that a clip's steps share. Made by `TalkVerse.prepare`."""

    text: tuple[KeyValues, ...]  # of every block
    audio: tuple[AudioInjection, ...]  # of every injection
    clean_tokens: Float[Array, "B L-S D"]  # reference and motion, float32
    clean_time: Float[Array, "B 6 D"]  # modulation of the clean tokens: timestep 0
    rope: RopeTables


def _no_tap(name: str, value: Array) -> None:
    pass


class TalkVerse(nnx.Module):
    """The diffusion transformer.

    Args:
      dtype: of matrix products and attention; the residual stream, norms and modulation stay float32.
      attention: the kernel of every attention.
    """

    def __init__(
        self,
        config: TalkVerseConfig,
        *,
        rngs: nnx.Rngs,
        dtype=jnp.float32,
        param_dtype=jnp.float32,
        attention: Attention = default_attention,
    ):
        trunk, kwargs = config.trunk, dict(rngs=rngs, dtype=dtype, param_dtype=param_dtype)
        self.config = config
        self.patch_embedding = PatchEmbedding(trunk.patch_size, trunk.in_channels, trunk.dim, **kwargs)
        self.text_embedding = TextEmbedding(trunk, **kwargs)
        self.time_embedding = TimeEmbedding(trunk, rngs=rngs, param_dtype=param_dtype)
        self.blocks = nnx.List([Block(trunk, attention, **kwargs) for _ in range(trunk.num_layers)])
        self.head = Head(trunk, rngs=rngs, param_dtype=param_dtype)
        self.audio_encoder = CausalAudioEncoder(config, rngs=rngs, param_dtype=param_dtype)
        self.audio_injectors = nnx.List(
            [AudioInjector(config, attention, **kwargs) for _ in config.audio_inject_layers]
        )
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
        context = self.text_embedding(text)
        sound = self._encode_audio(audio, tap)
        tokens = [self._embed(reference, REFERENCE)]
        positions = [
            _grid(audio.shape[1] // 4, height, width),
            _grid(1, height, width) + np.array([REFERENCE_FRAME, 0, 0]),
        ]
        if motion is not None:
            packed = self.frame_packer(motion).astype(jnp.float32)
            tap("motion_tokens", packed)
            tokens.append(packed + self._kind(MOTION))
            positions.append(motion_positions(height, width))
        rope = rope_tables(np.concatenate(positions), self.config.trunk.head_dim)
        _, clean_time = self.time_embedding(jnp.zeros((1,), jnp.float32))
        tap("text_embedding", context)
        for name, table in (("rope_real", rope.cos), ("rope_imag", rope.sin)):
            tap(name, jnp.broadcast_to(table[None, :, None], (len(reference), len(table), 1, table.shape[1])))
        return ClipConditions(
            text=tuple(block.cross_attn.key_values(context) for block in self.blocks),
            audio=tuple(injector.prepare(sound) for injector in self.audio_injectors),
            clean_tokens=jnp.concatenate(tokens, axis=1),
            clean_time=clean_time,
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
        embedded = self.patch_embedding(latents)
        tap("patch_embedding", jnp.moveaxis(embedded, -1, 1))
        grid, noisy = embedded.shape[1:4], int(np.prod(embedded.shape[1:4]))
        x = rearrange(embedded, "b f y x d -> b (f y x) d").astype(jnp.float32) + self._kind(NOISY)
        x = jnp.concatenate([x, conditions.clean_tokens], axis=1)
        clean = jnp.arange(x.shape[1]) >= noisy

        time, noisy_time = self.time_embedding(timestep)
        clean_time = jnp.broadcast_to(conditions.clean_time, noisy_time.shape)
        tap("time_projection", rearrange(jnp.concatenate([noisy_time, clean_time[:1]]), "b six d -> b (six d)"))
        time_vectors = jnp.stack([noisy_time, clean_time], axis=1)

        injections = dict(
            zip(self.config.audio_inject_layers, zip(self.audio_injectors, conditions.audio))
        )
        for index, (block, text) in enumerate(zip(self.blocks, conditions.text)):
            modulation = block.name_modulation(time_vectors)
            x = block.attend_self(x, modulation.attention, clean, conditions.rope)
            x = block.attend_context(x, text)
            x = block.feed_forward(x, modulation.feed_forward, clean)
            tap(f"block_{index}_before_audio", x)
            if index in injections:
                injector, audio = injections[index]
                x = x.at[:, :noisy].add(injector(x[:, :noisy], audio))
            tap(f"block_{index}", x)
        patches = self.head(x[:, :noisy], time)
        return unpatchify(patches, grid, self.config.trunk.patch_size)

    def _encode_audio(self, audio: Float[Array, "B T layers A"], tap: Tap):
        """Tokens of the clip's own frames; the motion frames before it hear its first row."""
        history = jnp.repeat(audio[:, :1], self.config.motion_frames, axis=1)
        sound = self.audio_encoder(jnp.concatenate([history, audio], axis=1))
        tap("audio_global_all", sound.summary[:, :, None])
        tap("audio_tokens_all", sound.tokens)
        return type(sound)(*(rows[:, self.config.motion_latent_frames :] for rows in sound))

    def _embed(self, latents: Float[Array, "B F h w C"], kind: int) -> Float[Array, "B S D"]:
        tokens = rearrange(self.patch_embedding(latents), "b f y x d -> b (f y x) d")
        return tokens.astype(jnp.float32) + self._kind(kind)

    def _kind(self, kind: int) -> Float[Array, " D"]:
        return self.token_kind.get_value()[kind].astype(jnp.float32)


def _grid(frames: int, height: int, width: int) -> np.ndarray:
    """Positions of the tokens of `frames` latent frames of h x w, two rows and columns a token."""
    return grid_positions(np.arange(frames), np.arange(height // 2), np.arange(width // 2))
