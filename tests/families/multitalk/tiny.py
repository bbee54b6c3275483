"""Tiny models of every component that fit together."""

import dataclasses

from talkverse_jax.families.multitalk.components import MultiTalkConfigs
from talkverse_jax.models.clip.config import ClipVisionConfig
from talkverse_jax.models.umt5.config import UMT5Config
from talkverse_jax.models.vae.config import VAEConfig
from talkverse_jax.models.wav2vec2.config import Wav2Vec2Config
from tests.families.multitalk.small import SMALL

TINY = MultiTalkConfigs(
    dit=dataclasses.replace(SMALL, image_dim=16, audio_dim=16, audio_layers=2),
    vae=dataclasses.replace(
        VAEConfig.wan21(), dim=8, dec_dim=8, num_res_blocks=1, latent_mean=(0.0,) * 16, latent_std=(1.0,) * 16
    ),
    text=UMT5Config(512, 24, 24, 48, 2, 1, 32, 128),
    audio=dataclasses.replace(
        Wav2Vec2Config.base(),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        conv_dim=(16,) * 7,
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=4,
    ),
    clip=ClipVisionConfig(dim=16, num_heads=2, num_layers=3, image_size=28, patch_size=14, norm_eps=1e-5),
)
