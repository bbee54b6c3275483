"""The transformer: Wan's blocks, two sounds added to each latent frame's tokens, and the look of the clip before among
the text; and the encoder of that look.

Shapes: R rows (videos by branch), F latent frames, h w latent grid, C latent channels, L tokens, D width, S sounds,
A audio width, E width of a look.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from talkverse_jax.models.wan import axes, blocks, keys
from talkverse_jax.models.wan.block import Block, Head
from talkverse_jax.models.wan.config import WanConfig
from talkverse_jax.models.wan.embeddings import PatchEmbedding, TextEmbedding, TimeEmbedding, unpatchify
from talkverse_jax.models.wan.sequence import padded_rope, pick_rows, places
from talkverse_jax.ops.attention import Attention
from talkverse_jax.ops.rope import RopeTables, grid_positions, rope_tables
from talkverse_jax.sharding.layout import Layout
from talkverse_jax.weights.rule import CONV2D, Rule, linear

BLOCK = "blocks"
RULES = (*keys.TRUNK, *linear("sound", "sound_proj"), *linear("look", "look_proj"))
AXES = (*axes.TRUNK, ("sound/kernel", (None, "width")), ("look/kernel", (None, "width")))
EYE_RULES = (Rule("see/kernel", "see.weight", CONV2D), Rule("see/bias", "see.bias"), *linear("tell", "tell"))


@dataclasses.dataclass(frozen=True)
class NetConfig:
    trunk: WanConfig
    sounds: int
    audio_dim: int
    look_dim: int


@dataclasses.dataclass(frozen=True)
class EyeConfig:
    patch: int
    width: int
    tokens: int
    out_dim: int


class Eye(nnx.Module):
    """A picture in a few tokens."""

    def __init__(self, config: EyeConfig, *, rngs, dtype=jnp.float32, param_dtype=jnp.float32, layout=Layout()):
        kwargs = dict(rngs=rngs, dtype=dtype, param_dtype=param_dtype)
        size = (config.patch, config.patch)
        self.config, self.layout = config, layout
        self.see = nnx.Conv(3, config.width, size, strides=size, padding="VALID", **kwargs)
        self.tell = nnx.Linear(config.width, config.tokens * config.out_dim, **kwargs)

    def __call__(self, picture: Float[Array, "B H W 3"]) -> Float[Array, "B tokens E"]:
        seen = nnx.gelu(self.see(picture)).mean(axis=(1, 2))
        return self.tell(seen).reshape(-1, self.config.tokens, self.config.out_dim)


class Conditions(NamedTuple):
    runs: blocks.Conditions
    sound: Float[Array, "R F D"]
    known: Float[Array, "R F h w C"]
    rope: RopeTables


class Net(nnx.Module):
    def __init__(
        self,
        config: NetConfig,
        *,
        rngs: nnx.Rngs,
        dtype=jnp.float32,
        param_dtype=jnp.float32,
        residual_dtype=jnp.float32,
        layout: Layout = Layout(),
        kernel: Any = "auto",
        scan: bool | None = None,
        remat: Any = "none",
        part_at: int = 0,
    ):
        trunk, kwargs = config.trunk, dict(rngs=rngs, dtype=dtype, param_dtype=param_dtype)
        make = {BLOCK: lambda rngs: Block(trunk, Attention(layout, kernel), **(kwargs | {"rngs": rngs}))}
        groups = [(f"{BLOCK}/{number}",) for number in range(trunk.num_layers)]
        compiled = dict(layout=layout, axes=AXES, scan=scan, remat=remat, part_at=part_at)
        self.config, self.layout, self.residual_dtype = config, layout, residual_dtype
        self.patch_embedding = PatchEmbedding(trunk.patch_size, trunk.in_channels, trunk.dim, **kwargs)
        self.text_embedding = TextEmbedding(trunk, **kwargs)
        self.time_embedding = TimeEmbedding(trunk, rngs=rngs, param_dtype=param_dtype)
        self.sound = nnx.Linear(config.sounds * config.audio_dim, trunk.dim, **kwargs)
        self.look = nnx.Linear(config.look_dim, trunk.dim, **kwargs)
        self.runs = blocks.make_runs(groups, make, rngs=rngs, **compiled)
        self.head = Head(trunk, rngs=rngs, param_dtype=param_dtype)

    @blocks.whole_weights(AXES)
    def prepare(
        self,
        text: Float[Array, "R T text_dim"],
        sounds: Float[Array, "R F S A"],
        look: Float[Array, "R tokens E"],
        known: Float[Array, "R F h w C"],
    ) -> Conditions:
        """What the steps share; `known` are the latents that are held, zero elsewhere."""
        context = jnp.concatenate([self.look(look), self.text_embedding(text)], axis=1)
        grid = self.patch_embedding.grid(known)
        tables = rope_tables(grid_positions(*map(range, grid)), self.config.trunk.head_dim)
        return Conditions(
            blocks.prepare(self.runs, {BLOCK: lambda block: block.cross_attn.key_values(context)}),
            self.sound(sounds.reshape(*sounds.shape[:2], -1)).astype(jnp.float32),
            known,
            padded_rope(tables, self.layout),
        )

    def velocity(self, latents, timestep, conditions: Conditions) -> Float[Array, "R F h w C"]:
        return self.cached_velocity(latents, timestep, conditions, None)[0]

    @blocks.whole_weights(AXES)
    def cached_velocity(
        self,
        latents: Float[Array, "R F h w C"],
        timestep: Float[Array, " R"],
        conditions: Conditions,
        cache: Float[Array, "R L D"] | None,
    ) -> tuple[Float[Array, "R F h w C"], Float[Array, "R L D"]]:
        """The velocity, and what the blocks added to the tokens, which `cache` brings back."""
        grid = frames, rows, columns = self.patch_embedding.grid(latents)
        tokens, place = frames * rows * columns, places(frames * rows * columns, self.layout)
        patches = self.patch_embedding(jnp.concatenate([latents, conditions.known], axis=-1)).astype(jnp.float32)
        x = pick_rows(patches, place) + pick_rows(conditions.sound, place // (rows * columns))
        x = self.layout.constrain(x.astype(self.residual_dtype), "batch", "stream", None)
        time, vectors = self.time_embedding(timestep)

        def run(block: Block, x, text):
            return block(x, block.modulation_at(vectors[:, None]), text, conditions.rope, tokens)

        added = blocks.through(self.runs, x, conditions.runs, {BLOCK: run}) - x if cache is None else cache
        patches = self.layout.constrain(self.head(x + added, time), "batch", None, None)[:, :tokens]
        return unpatchify(patches, grid, self.patch_embedding.patch), added


class Holding(NamedTuple):
    """Latents known from the clip before: at the step's noise as the model sees them, exact after each step."""

    latents: Float[Array, "B F h w C"]
    mask: Float[Array, "B F 1 1 1"]

    def before(self, latents, step, keys):
        noise = jax.vmap(lambda key: jax.random.normal(key, latents.shape[1:]))(keys)
        sigma = step.coefficients.sigma
        return jnp.where(self.mask > 0, (1 - sigma) * self.latents + sigma * noise, latents)

    def after(self, latents, step, keys):
        return jnp.where(self.mask > 0, self.latents, latents)
