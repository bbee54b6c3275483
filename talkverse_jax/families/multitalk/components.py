"""The five models of MultiTalk and a tiny decoder, which is optional; and their sizes together."""

import dataclasses

from talkverse_jax.core.errors import UserError
from talkverse_jax.families.multitalk import axes as dit_axes
from talkverse_jax.families.multitalk import keys as dit_keys
from talkverse_jax.families.multitalk.config import MultiTalkConfig
from talkverse_jax.families.multitalk.model import MultiTalk
from talkverse_jax.models.clip.component import clip
from talkverse_jax.models.clip.config import ClipVisionConfig
from talkverse_jax.models.tiny_decoder.component import check_tiny_decoder, tiny_decoder
from talkverse_jax.models.tiny_decoder.config import TinyDecoderConfig
from talkverse_jax.models.umt5.component import umt5
from talkverse_jax.models.umt5.config import UMT5Config
from talkverse_jax.models.vae.component import vae21
from talkverse_jax.models.vae.config import VAEConfig
from talkverse_jax.models.wan import diffusers_names
from talkverse_jax.models.wan.config import WIDTHS
from talkverse_jax.models.wan.keys import PREFIXES
from talkverse_jax.models.wav2vec2.component import wav2vec2_base
from talkverse_jax.models.wav2vec2.config import Wav2Vec2Config
from talkverse_jax.pipeline.machine import Machine
from talkverse_jax.sharding.rules import SAMPLING
from talkverse_jax.weights.component import Component

COMPONENTS: dict[str, Component] = {
    component.name: component
    for component in (
        Component(
            name="dit",
            config_type=MultiTalkConfig,
            model_type=MultiTalk,
            rules=dit_keys.RULES,
            axes=dit_axes.AXES,
            ignored=(),
            real_size=MultiTalkConfig.multitalk_14b,
            dtype="bfloat16",
            split=SAMPLING,
            to_published=diffusers_names.to_published,
            prefixes=PREFIXES,
            widths=WIDTHS,
            int8=("blocks/*",),
        ),
        vae21(),
        umt5(),
        wav2vec2_base(),
        clip(),
        tiny_decoder(TinyDecoderConfig.taew2_1),
    )
}


def dtypes(machine: Machine) -> dict[str, str]:
    """Of each component's parameters and products."""
    own = {"dit": machine.dtype, "vae": machine.vae_dtype, "text": machine.dtype}
    return {**own, "audio": "float32", "clip": "float32", "tiny_decoder": machine.decode_dtype}


@dataclasses.dataclass(frozen=True)
class MultiTalkConfigs:
    """The sizes of all, by component; a `--config` file holds a table for each.

    Raises:
      UserError: what one gives is not what the next takes.
    """

    dit: MultiTalkConfig
    vae: VAEConfig
    text: UMT5Config
    audio: Wav2Vec2Config
    clip: ClipVisionConfig
    tiny_decoder: TinyDecoderConfig | None = None

    def __post_init__(self):
        dit, trunk, layers = self.dit, self.dit.trunk, self.audio.num_hidden_layers
        for what, gives, takes in (
            ("latent channels: vae z_dim, dit out_channels", self.vae.z_dim, trunk.out_channels),
            (
                "channels: dit in_channels, latents and those that are known",
                trunk.in_channels,
                trunk.out_channels + dit.known_channels,
            ),
            ("frames a latent frame: vae, dit time_stride", self.vae.time_stride, dit.time_stride),
            ("text width: text dim, dit text_dim", self.text.dim, trunk.text_dim),
            ("picture width: clip dim, dit image_dim", self.clip.dim, dit.image_dim),
            ("audio width: audio hidden_size, dit audio_dim", self.audio.hidden_size, dit.audio_dim),
            ("audio layers: audio num_hidden_layers, dit audio_layers", layers, dit.audio_layers),
        ):
            if gives != takes:
                raise UserError(f"the models do not fit together ({what}): {gives} and {takes}; make them equal")
        check_tiny_decoder(self.tiny_decoder, self.vae.z_dim, self.vae.strides)
