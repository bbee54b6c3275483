"""UMT5 as a component of a family, and where it is published."""

from talkverse_jax.models.umt5 import axes, keys
from talkverse_jax.models.umt5.config import UMT5Config
from talkverse_jax.models.umt5.model import UMT5Encoder
from talkverse_jax.weights.component import Component
from talkverse_jax.weights.published import Origin, RandomTensors, Repository
from talkverse_jax.weights.published_files import Tokenizer, TorchFile


def umt5(name: str = "text") -> Component:
    """The encoder of umt5-xxl, as a component of that name."""
    return Component(
        name=name,
        config_type=UMT5Config,
        model_type=UMT5Encoder,
        rules=keys.RULES,
        axes=axes.AXES,
        ignored=(),
        real_size=UMT5Config.xxl,
        dtype="bfloat16",
    )


def umt5_origin(
    repository: Repository,
    file: str = "models_t5_umt5-xxl-enc-bf16.pth",
    tokenizer: str = "google/umt5-xxl",
) -> Origin:
    """Its files beside a model of Wan's: one of PyTorch, and a folder of the tokenizer."""
    return Origin(repository, TorchFile(file), (Tokenizer(tokenizer),), random=RandomTensors(dtype="bfloat16"))
