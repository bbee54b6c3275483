"""The weight tables of the Wan VAEs: `Wan2.2_VAE.pth` and `Wan2.1_VAE.pth`, and the same in diffusers' names
(`AutoencoderKLWan`)."""

from collections.abc import Iterable
from typing import NamedTuple

from talkverse_jax.models.vae.config import LevelSizes, VAEConfig
from talkverse_jax.weights.rule import CONV2D, CONV3D, POINTWISE2D, POINTWISE3D, SAME, Rule, TensorLayout

GAMMA2D = TensorLayout(squeeze=(1, 2))  # [C, 1, 1] -> [C]
GAMMA3D = TensorLayout(squeeze=(1, 2, 3))  # [C, 1, 1, 1] -> [C]


class _Names(NamedTuple):
    """What a part is called in the published file, and in diffusers'."""

    published: str
    diffusers: str

    def part(self, published: str, diffusers: str) -> "_Names":
        return _Names(f"{self.published}.{published}", f"{self.diffusers}.{diffusers}")


class _Layer(NamedTuple):
    """A layer of a level, a residual block or a resampling.

    Attributes:
      path: ours.
      block, resampling: its names as the one and as the other, which only diffusers tells apart.
    """

    path: str
    block: _Names
    resampling: _Names


def _layer(path: str, names: _Names, layout: TensorLayout) -> tuple[Rule, Rule]:
    return (
        Rule(f"{path}/kernel", names.part("weight", "weight"), layout),
        Rule(f"{path}/bias", names.part("bias", "bias"), SAME),
    )


def _residual_block(path: str, names: _Names) -> tuple[Rule, ...]:
    return (
        Rule(f"{path}/norm1/gamma", names.part("residual.0.gamma", "norm1.gamma"), GAMMA3D),
        *_layer(f"{path}/conv1", names.part("residual.2", "conv1"), CONV3D),
        Rule(f"{path}/norm2/gamma", names.part("residual.3.gamma", "norm2.gamma"), GAMMA3D),
        *_layer(f"{path}/conv2", names.part("residual.6", "conv2"), CONV3D),
        *_layer(f"{path}/shortcut", names.part("shortcut", "conv_shortcut"), POINTWISE3D),
    )


def _level_layer(layer: _Layer) -> tuple[Rule, ...]:
    return (
        *_residual_block(layer.path, layer.block),
        *_layer(f"{layer.path}/resample", layer.resampling.part("resample.1", "resample.1"), CONV2D),
        *_layer(f"{layer.path}/time_conv", layer.resampling.part("time_conv", "time_conv"), CONV3D),
    )


def _middle(path: str) -> tuple[Rule, ...]:
    """Attention between two residual blocks."""
    attention = _Names(f"{path}.middle.1", f"{path}.mid_block.attentions.0")
    return (
        *_residual_block(f"{path}/middle/0", _Names(f"{path}.middle.0", f"{path}.mid_block.resnets.0")),
        Rule(f"{path}/middle/1/norm/gamma", attention.part("norm.gamma", "norm.gamma"), GAMMA2D),
        *_layer(f"{path}/middle/1/to_qkv", attention.part("to_qkv", "to_qkv"), POINTWISE2D),
        *_layer(f"{path}/middle/1/proj", attention.part("proj", "proj"), POINTWISE2D),
        *_residual_block(f"{path}/middle/2", _Names(f"{path}.middle.2", f"{path}.mid_block.resnets.1")),
    )


def _coder(path: str, layers: Iterable[_Layer]) -> tuple[Rule, ...]:
    names = _Names(path, path)
    return (
        *_layer(f"{path}/conv_in", names.part("conv1", "conv_in"), CONV3D),
        *(rule for layer in layers for rule in _level_layer(layer)),
        *_middle(path),
        Rule(f"{path}/head/norm/gamma", names.part("head.0.gamma", "norm_out.gamma"), GAMMA3D),
        *_layer(f"{path}/head/conv", names.part("head.2", "conv_out"), CONV3D),
    )


def _both(encoder: Iterable[_Layer], decoder: Iterable[_Layer]) -> tuple[Rule, ...]:
    return (
        *_coder("encoder", encoder),
        *_layer("quant_conv", _Names("conv1", "quant_conv"), POINTWISE3D),
        *_layer("post_quant_conv", _Names("conv2", "post_quant_conv"), POINTWISE3D),
        *_coder("decoder", decoder),
    )


def _counted_encoder(levels: Iterable[LevelSizes]) -> list[_Layer]:
    """The layers of all levels, which both files count through."""
    layers = []
    for number, path in enumerate(_paths("encoder", levels)):
        names = _Names(f"encoder.downsamples.{number}", f"encoder.down_blocks.{number}")
        layers.append(_Layer(path, names, names))
    return layers


def _counted_decoder(levels: Iterable[LevelSizes]) -> list[_Layer]:
    """The same of the decoder, whose levels diffusers knows."""
    layers = []
    for number, path in enumerate(_paths("decoder", levels)):
        level, layer = path.split("/")[2::2]
        published, diffusers = f"decoder.upsamples.{number}", f"decoder.up_blocks.{level}"
        block, resampling = f"{diffusers}.resnets.{layer}", f"{diffusers}.upsamplers.0"
        layers.append(_Layer(path, _Names(published, block), _Names(published, resampling)))
    return layers


def _paths(coder: str, levels: Iterable[LevelSizes]) -> list[str]:
    return [
        f"{coder}/levels/{level}/layers/{layer}"
        for level, sizes in enumerate(levels)
        for layer in range(sizes.blocks + (sizes.space > 1))
    ]


def counted_rules(config: VAEConfig) -> tuple[Rule, ...]:
    """The table of a VAE of the Wan2.1 kind, whose files know no levels."""
    return _both(_counted_encoder(config.encoder_levels), _counted_decoder(config.decoder_levels))


RULES: tuple[Rule, ...] = _both(
    [
        _Layer(
            "encoder/levels/*/layers/*",
            _Names("encoder.downsamples.*.downsamples.*", "encoder.down_blocks.*.resnets.*"),
            _Names("encoder.downsamples.*.downsamples.*", "encoder.down_blocks.*.downsampler"),
        )
    ],
    [
        _Layer(
            "decoder/levels/*/layers/*",
            _Names("decoder.upsamples.*.upsamples.*", "decoder.up_blocks.*.resnets.*"),
            _Names("decoder.upsamples.*.upsamples.*", "decoder.up_blocks.*.upsampler"),
        )
    ],
)
WAN21_RULES: tuple[Rule, ...] = counted_rules(VAEConfig.wan21())
