"""What reference bundles of MultiTalk are run with."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from talkverse_jax.families.multitalk.components import COMPONENTS
from talkverse_jax.families.multitalk.config import MultiTalkConfig, Recipe
from talkverse_jax.families.multitalk.published import SOURCES
from talkverse_jax.families.multitalk.settings import Sources
from talkverse_jax.pipeline.cases import BundleModels

MODELS = BundleModels(COMPONENTS, SOURCES, Sources)


def dit_config(sizes: Mapping[str, Any], recipe: Recipe = "multitalk") -> MultiTalkConfig:
    """The transformer's config from a bundle's; what no version changes is as published."""
    names = ("dim", "ffn_dim", "freq_dim", "text_dim", "text_len", "num_heads", "num_layers")
    real = MultiTalkConfig.multitalk_14b()
    return dataclasses.replace(
        real,
        trunk=dataclasses.replace(real.trunk, **{name: sizes[name] for name in names}),
        audio_hidden=sizes["intermediate_dim"],
        audio_token_dim=sizes["output_dim"],
        audio_tokens=sizes["context_tokens"],
        recipe=recipe,
    )
