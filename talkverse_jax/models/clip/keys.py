"""Our parameters and the names of `models_clip_open-clip-xlm-roberta-large-vit-huge-14.pth`; the tower alone may go
without their `visual.`."""

from talkverse_jax.models.clip.config import ClipVisionConfig
from talkverse_jax.weights.rule import CONV2D, LINEAR, Rule, TensorLayout

_VECTOR = TensorLayout(squeeze=(0, 1))  # [1, 1, D] -> [D]
_ROWS = TensorLayout(squeeze=(0,))  # [1, T, D] -> [T, D]
_BLOCK = "transformer.*"


def names(name: str) -> tuple[str, str]:
    """What a tensor of the tower is called in a file of all of CLIP, and alone."""
    return f"visual.{name}", name


def _layer(path: str, name: str) -> tuple[Rule, Rule]:
    return Rule(f"{path}/kernel", names(f"{name}.weight"), LINEAR), _bias(path, name)


def _norm(path: str, name: str) -> tuple[Rule, Rule]:
    return Rule(f"{path}/scale", names(f"{name}.weight")), _bias(path, name)


def _bias(path: str, name: str) -> Rule:
    return Rule(f"{path}/bias", names(f"{name}.bias"))


RULES = (
    Rule("embedding/patches/kernel", names("patch_embedding.weight"), CONV2D),
    Rule("embedding/first", names("cls_embedding"), _VECTOR),
    Rule("embedding/positions", names("pos_embedding"), _ROWS),
    *_norm("embedding/norm", "pre_norm"),
    *_norm("blocks/*/norm1", f"{_BLOCK}.norm1"),
    *_layer("blocks/*/attn/to_qkv", f"{_BLOCK}.attn.to_qkv"),
    *_layer("blocks/*/attn/proj", f"{_BLOCK}.attn.proj"),
    *_norm("blocks/*/norm2", f"{_BLOCK}.norm2"),
    *_layer("blocks/*/mlp/fc1", f"{_BLOCK}.mlp.0"),
    *_layer("blocks/*/mlp/fc2", f"{_BLOCK}.mlp.2"),
)

# What follows the last block, and the tower for text.
IGNORED = (*names("post_norm.*"), *names("head"), "textual.*", "log_scale")


def last_block(config: ClipVisionConfig) -> tuple[str, ...]:
    """The names of the block that is published and not computed."""
    return names(f"transformer.{config.num_layers - 1}.*")
