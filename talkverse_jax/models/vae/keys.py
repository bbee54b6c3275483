"""The weight table of the Wan2.2 VAE (`Wan2.2_VAE.pth`)."""

from talkverse_jax.weights.rule import CONV2D, CONV3D, POINTWISE2D, POINTWISE3D, Rule, TensorLayout

GAMMA2D = TensorLayout(squeeze=(1, 2))  # [C, 1, 1] -> [C]
GAMMA3D = TensorLayout(squeeze=(1, 2, 3))  # [C, 1, 1, 1] -> [C]


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


def _coder(path: str, levels: str) -> tuple[Rule, ...]:
    return (
        *_layer(f"{path}/conv_in", f"{path}.conv1", CONV3D),
        *_residual_block(f"{path}/levels/*/layers/*", f"{path}.{levels}.*.{levels}.*"),
        *_layer(f"{path}/levels/*/layers/*/resample", f"{path}.{levels}.*.{levels}.*.resample.1", CONV2D),
        *_layer(f"{path}/levels/*/layers/*/time_conv", f"{path}.{levels}.*.{levels}.*.time_conv", CONV3D),
        *_residual_block(f"{path}/middle/*", f"{path}.middle.*"),
        Rule(f"{path}/middle/*/norm/gamma", f"{path}.middle.*.norm.gamma", GAMMA2D),
        *_layer(f"{path}/middle/*/to_qkv", f"{path}.middle.*.to_qkv", POINTWISE2D),
        *_layer(f"{path}/middle/*/proj", f"{path}.middle.*.proj", POINTWISE2D),
        Rule(f"{path}/head/norm/gamma", f"{path}.head.0.gamma", GAMMA3D),
        *_layer(f"{path}/head/conv", f"{path}.head.2", CONV3D),
    )


RULES: tuple[Rule, ...] = (
    *_coder("encoder", "downsamples"),
    *_layer("quant_conv", "conv1", POINTWISE3D),
    *_layer("post_quant_conv", "conv2", POINTWISE3D),
    *_coder("decoder", "upsamples"),
)
