"""CLIP's visual tower as a component of a family, and where it is published."""

import dataclasses

from talkverse_jax.models.clip import axes, keys, textual
from talkverse_jax.models.clip.config import ClipVisionConfig
from talkverse_jax.models.clip.model import ClipVision
from talkverse_jax.weights.component import Component
from talkverse_jax.weights.published import Origin, RandomTensors, Repository
from talkverse_jax.weights.published_files import TorchFile

_JOINT = 1024  # channels in which the published towers' pictures and texts are compared


def clip(name: str = "clip") -> Component:
    """The visual tower of open-CLIP's XLM-RoBERTa ViT-H/14, as a component of that name."""
    return Component(
        name=name,
        config_type=ClipVisionConfig,
        model_type=ClipVision,
        rules=keys.RULES,
        axes=axes.AXES,
        ignored=keys.IGNORED,
        ignored_at=keys.last_block,
        real_size=ClipVisionConfig.vit_h14,
        # As published. The original rounds to float16, which keeps three bits more than bfloat16.
        dtype="float32",
    )


def clip_origin(
    repository: Repository, file: str = "models_clip_open-clip-xlm-roberta-large-vit-huge-14.pth"
) -> Origin:
    """Its file beside a model of Wan's, in which the tower for text is too."""
    return Origin(repository, TorchFile(file), random=RandomTensors(also=_unused))


def _unused(config: ClipVisionConfig) -> dict[str, tuple[int, ...]]:
    """What the file has besides: the last block and what follows it, and the tower for text."""
    used = clip().torch_shapes(config)
    deeper = clip().torch_shapes(dataclasses.replace(config, num_layers=config.num_layers + 1))
    real = config == ClipVisionConfig.vit_h14()
    texts = textual.XLM_ROBERTA_LARGE if real else textual.TextualSizes(config.dim, 1, 64, 16)
    joint = _JOINT if real else config.dim
    return {
        **{name: shape for name, shape in deeper.items() if name not in used},
        "visual.post_norm.weight": (config.dim,),
        "visual.post_norm.bias": (config.dim,),
        "visual.head": (config.dim, joint),
        **textual.shapes(texts, joint),
        "log_scale": (),
    }
