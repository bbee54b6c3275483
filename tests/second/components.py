"""The models, their sizes together, and where they are published."""

import dataclasses

from talkverse_jax.core.errors import UserError
from talkverse_jax.models.umt5.component import umt5, umt5_origin
from talkverse_jax.models.umt5.config import UMT5Config
from talkverse_jax.models.vae.component import vae21
from talkverse_jax.models.vae.config import VAEConfig
from talkverse_jax.models.wan import diffusers_names
from talkverse_jax.models.wan.config import WIDTHS, WanConfig
from talkverse_jax.models.wav2vec2.component import wav2vec2, wav2vec2_origin
from talkverse_jax.models.wav2vec2.config import Wav2Vec2Config
from talkverse_jax.pipeline.machine import Machine
from talkverse_jax.sharding.rules import SAMPLING
from talkverse_jax.weights.component import Component
from talkverse_jax.weights.published import AdapterFile, Origin, Repository
from talkverse_jax.weights.published_files import Safetensors, TorchFile
from tests.second import model

_TRUNK = WanConfig(48, 64, 32, 32, 16, 2, 2, 8, 4, (1, 2, 2), 1e-6)
_VAE = VAEConfig(8, 8, 4, (1, 2, 4, 4), 1, (False, True, True), (0.0,) * 4, (1.0,) * 4, pixel_patch=1, shortcuts=False)
_TEXT = UMT5Config(512, 32, 32, 64, 2, 1, 32, 128)
_EARS = Wav2Vec2Config(16, 1, 2, 32, (16,) * 7, (10, 3, 3, 3, 3, 2, 2), (5, 2, 2, 2, 2, 2, 2), 16, 4, 1e-5)


def _component(name: str, config, module, rules, axes, dtype: str, **more) -> Component:
    return Component(name, type(config), module, rules, axes, (), lambda: config, dtype, **more)


COMPONENTS: dict[str, Component] = {
    each.name: each
    for each in (
        _component(
            "net",
            model.NetConfig(_TRUNK, 2, 16, 24),
            model.Net,
            model.RULES,
            model.AXES,
            "bfloat16",
            split=SAMPLING,
            to_published=diffusers_names.to_published,
            widths=WIDTHS,
        ),
        vae21("pixels", lambda: _VAE),
        dataclasses.replace(umt5("words"), real_size=lambda: _TEXT),
        dataclasses.replace(wav2vec2("ears"), real_size=lambda: _EARS),
        _component("eye", model.EyeConfig(8, 12, 3, 24), model.Eye, model.EYE_RULES, (), "float32"),
    )
}

_BASE = Repository("base_dir", "nobody/second")
SOURCES = {
    "net": Origin(
        _BASE,
        Safetensors("net"),
        adapters=(
            AdapterFile("adapter", "nobody/adapter", "second.safetensors", "the adapter", adds=("sound_", "look_")),
        ),
    ),
    "pixels": Origin(_BASE, TorchFile("pixels.pth")),
    "words": umt5_origin(_BASE),
    "ears": wav2vec2_origin(_BASE),
    "eye": Origin(_BASE, Safetensors("eye")),
}


def dtypes(machine: Machine) -> dict[str, str]:
    """Of each component's parameters and products."""
    own = {"net": machine.dtype, "pixels": machine.vae_dtype, "words": machine.dtype}
    return own | {"ears": "float32", "eye": "float32"}


@dataclasses.dataclass(frozen=True)
class Configs:
    net: model.NetConfig
    pixels: VAEConfig
    words: UMT5Config
    ears: Wav2Vec2Config
    eye: model.EyeConfig

    def __post_init__(self):
        if (self.net.look_dim, self.net.trunk.out_channels) != (self.eye.out_dim, self.pixels.z_dim):
            raise UserError("the models do not fit together")
