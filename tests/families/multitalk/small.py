"""A small MultiTalk with random parameters, and inputs for it."""

from typing import Any

import jax
import jax.numpy as jnp

from talkverse_jax.families.multitalk.audio import AudioWindows
from talkverse_jax.families.multitalk.config import MultiTalkConfig
from talkverse_jax.models.wan.config import WanConfig

SMALL = MultiTalkConfig(
    trunk=WanConfig(
        dim=96,
        ffn_dim=128,
        freq_dim=32,
        text_dim=24,
        text_len=16,
        num_heads=4,
        num_layers=3,
        in_channels=36,
        out_channels=16,
        patch_size=(1, 2, 2),
        eps=1e-6,
    ),
    image_dim=20,
    audio_dim=6,
    audio_layers=3,
    audio_window=5,
    audio_hidden=16,
    audio_token_dim=24,
    audio_tokens=4,
    time_stride=4,
    speaker_ranges=((0.0, 4.0), (20.0, 24.0)),
    background=12.0,
    recipe="multitalk",
)


def masks(speakers: int, height: int, width: int) -> jax.Array:
    """Each speaker in a strip of the picture, and the background in the row above."""
    columns = jnp.arange(width) * speakers // width
    shown = jnp.stack([columns == number for number in range(speakers)])[:, None].repeat(height, axis=1)
    shown = shown.at[:, :2].set(False)
    return jnp.concatenate([shown, ~shown.any(axis=0, keepdims=True)]).astype(jnp.float32)


def random_inputs(
    config: MultiTalkConfig = SMALL, *, rows=1, speakers=2, frames=3, height=8, width=8, seed=2
) -> dict[str, Any]:
    """What `call` takes."""
    keys = iter(jax.random.split(jax.random.key(seed), 8))

    def normal(*shape):
        return jax.random.normal(next(keys), shape)

    layers, width_of_sound = config.audio_layers, config.audio_dim
    first = normal(rows, speakers, config.audio_window, layers, width_of_sound)
    later = normal(rows, speakers, frames - 1, config.group_window, layers, width_of_sound)
    return dict(
        text=normal(rows, config.trunk.text_len, config.trunk.text_dim),
        image=normal(rows, 5, config.image_dim),
        known=normal(rows, frames, height, width, config.known_channels),
        sound=AudioWindows(first, later),
        speakers=jnp.broadcast_to(masks(speakers, height, width), (rows, speakers + 1, height, width)),
        alone=None,
        latents=normal(rows, frames, height, width, config.trunk.out_channels),
        timestep=jnp.linspace(700.0, 300.5, rows),
    )


@jax.jit
def call(model, text, image, known, sound, speakers, alone, latents, timestep):
    return model.velocity(latents, timestep, model.prepare(text, image, known, sound, speakers, alone))
