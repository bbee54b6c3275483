"""The weight table of the tiny decoders: `taew2_1.pth`, `taew2_2.pth`. Their layers are counted through, those without
parameters included; the encoder beside them is not used."""

from talkverse_jax.models.tiny_decoder.config import TinyDecoderConfig
from talkverse_jax.weights.rule import CONV2D, POINTWISE2D, Rule

IGNORED = ("encoder.*",)
_FIRST = 1  # layer; before it latents are bounded


def rules(config: TinyDecoderConfig) -> tuple[Rule, ...]:
    """The table of a decoder of so many levels and blocks."""
    found, at = [*_conv("conv_in", f"decoder.{_FIRST}")], _FIRST + 2  # behind a ReLU
    for level in range(len(config.levels)):
        for block in range(config.blocks):
            path = f"levels/{level}/blocks/{block}"
            for number in range(3):
                found += _conv(f"{path}/conv{number + 1}", f"decoder.{at}.conv.{2 * number}")
            at += 1
        found.append(Rule(f"levels/{level}/grow", growth(config, level), POINTWISE2D))
        found.append(Rule(f"levels/{level}/conv/kernel", f"decoder.{at + 2}.weight", CONV2D))
        at += 3  # pixels doubled, frames grown, the convolution
    return (*found, *_conv("conv_out", f"decoder.{at + 1}"))


def growth(config: TinyDecoderConfig, level: int) -> str:
    """The name of what makes a level's frames more."""
    return f"decoder.{_FIRST + 2 + level * (config.blocks + 3) + config.blocks + 1}.conv.weight"


def _conv(path: str, name: str) -> tuple[Rule, Rule]:
    return Rule(f"{path}/kernel", f"{name}.weight", CONV2D), Rule(f"{path}/bias", f"{name}.bias")
