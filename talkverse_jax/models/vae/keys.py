"""The weight tables of the Wan VAEs: `Wan2.2_VAE.pth` and `Wan2.1_VAE.pth`."""

from collections.abc import Iterable

from talkverse_jax.models.vae.config import LevelSizes, VAEConfig
from talkverse_jax.weights.rule import CONV2D, CONV3D, POINTWISE2D, POINTWISE3D, Rule, TensorLayout

GAMMA2D = TensorLayout(squeeze=(1, 2))  # [C, 1, 1] -> [C]
GAMMA3D = TensorLayout(squeeze=(1, 2, 3))  # [C, 1, 1, 1] -> [C]

Names = Iterable[tuple[str, str]]  # paths of layers of levels, and what files call them


def _layer(path: str, name: str, layout: TensorLayout) -> tuple[Rule, Rule]:
    return Rule(f"{path}/kernel", f"{name}.weight", layout), Rule(f"{path}/bias", f"{name}.bias")


def _residual_block(path: str, name: str) -> tuple[Rule, ...]:
    return (
        Rule(f"{path}/norm1/gamma", f"{name}.residual.0.gamma", GAMMA3D),
        *_layer(f"{path}/conv1", f"{name}.residual.2", CONV3D),
        Rule(f"{path}/norm2/gamma", f"{name}.residual.3.gamma", GAMMA3D),
        *_layer(f"{path}/conv2", f"{name}.residual.6", CONV3D),
        *_layer(f"{path}/shortcut", f"{name}.shortcut", POINTWISE3D),
    )


def _level_layer(path: str, name: str) -> tuple[Rule, ...]:
    """A layer of a level: a residual block or a resampling."""
    return (
        *_residual_block(path, name),
        *_layer(f"{path}/resample", f"{name}.resample.1", CONV2D),
        *_layer(f"{path}/time_conv", f"{name}.time_conv", CONV3D),
    )


def _coder(path: str, layers: Names) -> tuple[Rule, ...]:
    return (
        *_layer(f"{path}/conv_in", f"{path}.conv1", CONV3D),
        *(rule for names in layers for rule in _level_layer(*names)),
        *_residual_block(f"{path}/middle/*", f"{path}.middle.*"),
        Rule(f"{path}/middle/*/norm/gamma", f"{path}.middle.*.norm.gamma", GAMMA2D),
        *_layer(f"{path}/middle/*/to_qkv", f"{path}.middle.*.to_qkv", POINTWISE2D),
        *_layer(f"{path}/middle/*/proj", f"{path}.middle.*.proj", POINTWISE2D),
        Rule(f"{path}/head/norm/gamma", f"{path}.head.0.gamma", GAMMA3D),
        *_layer(f"{path}/head/conv", f"{path}.head.2", CONV3D),
    )


def _both(encoder: Names, decoder: Names) -> tuple[Rule, ...]:
    return (
        *_coder("encoder", encoder),
        *_layer("quant_conv", "conv1", POINTWISE3D),
        *_layer("post_quant_conv", "conv2", POINTWISE3D),
        *_coder("decoder", decoder),
    )


def _counted(levels: Iterable[LevelSizes], path: str, name: str) -> Names:
    """The layers of all levels, which a file counts through."""
    counts = [sizes.blocks + (sizes.space > 1) for sizes in levels]
    paths = [f"{path}/levels/{level}/layers/{layer}" for level, count in enumerate(counts) for layer in range(count)]
    return [(path, f"{name}.{number}") for number, path in enumerate(paths)]


def counted_rules(config: VAEConfig) -> tuple[Rule, ...]:
    """The table of a VAE of the Wan2.1 kind, whose files know no levels."""
    return _both(
        _counted(config.encoder_levels, "encoder", "encoder.downsamples"),
        _counted(config.decoder_levels, "decoder", "decoder.upsamples"),
    )


RULES: tuple[Rule, ...] = _both(
    [("encoder/levels/*/layers/*", "encoder.downsamples.*.downsamples.*")],
    [("decoder/levels/*/layers/*", "decoder.upsamples.*.upsamples.*")],
)
WAN21_RULES: tuple[Rule, ...] = counted_rules(VAEConfig.wan21())
