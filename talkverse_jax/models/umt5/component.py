"""UMT5 as a component of a family, and where it is published."""

from talkverse_jax.models.umt5 import axes, keys
from talkverse_jax.models.umt5.config import UMT5Config
from talkverse_jax.models.umt5.model import UMT5Encoder
from talkverse_jax.weights.component import Component
from talkverse_jax.weights.published import Origin, RandomTensors, Repository
from talkverse_jax.weights.published_files import Safetensors, Tokenizer, TorchFile
from talkverse_jax.weights.sentencepiece_model import TENSOR


def umt5(name: str = "text") -> Component:
    """The encoder of umt5-xxl, as a component of that name."""
    return Component(
        name=name,
        config_type=UMT5Config,
        model_type=UMT5Encoder,
        rules=keys.RULES,
        axes=axes.AXES,
        ignored=(TENSOR,),
        real_size=UMT5Config.xxl,
        dtype="bfloat16",
        prefixes=("text_encoders.umt5xxl.transformer.",),  # in ComfyUI's files of several models
    )


def umt5_origin(
    repository: Repository,
    file: str = "models_t5_umt5-xxl-enc-bf16.pth",
    tokenizer: str = "google/umt5-xxl",
    file_flag: str | None = None,
) -> Origin:
    """Its files beside a model of Wan's: one of PyTorch, and a folder of the tokenizer."""
    return Origin(
        repository,
        TorchFile(file),
        (Tokenizer(tokenizer),),
        random=RandomTensors(dtype="bfloat16"),
        file_flag=file_flag,
        diffusers=Safetensors("model", inside="text_encoder"),
    )
