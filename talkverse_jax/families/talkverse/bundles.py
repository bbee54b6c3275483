"""What reference bundles of TalkVerse are run with."""

from collections.abc import Mapping
from typing import Any

from talkverse_jax.families.talkverse.components import COMPONENTS
from talkverse_jax.families.talkverse.config import TalkVerseConfig
from talkverse_jax.families.talkverse.published import SOURCES
from talkverse_jax.families.talkverse.settings import Sources
from talkverse_jax.models.wan.config import WanConfig
from talkverse_jax.pipeline.cases import BundleModels

MODELS = BundleModels(COMPONENTS, SOURCES, Sources)


def dit_config(sizes: Mapping[str, Any], motion_frames: int, channels: int, audio_layers: int) -> TalkVerseConfig:
    """The transformer's config from a bundle's and its inputs; what no version changes is filled in."""
    names = ("dim", "ffn_dim", "freq_dim", "text_dim", "text_len", "num_heads", "num_layers")
    return TalkVerseConfig(
        trunk=WanConfig(
            **{name: sizes[name] for name in names},
            in_channels=channels,
            out_channels=channels,
            patch_size=(1, 2, 2),
            eps=1e-6,
        ),
        audio_dim=sizes["audio_dim"],
        audio_layers=audio_layers,
        audio_tokens=4,
        audio_inject_layers=tuple(sizes["audio_inject_layers"]),
        motion_frames=motion_frames,
    )
