"""wav2vec2 as a component of a family, and where it is published."""

import os
from typing import Any

from talkverse_jax.core.config import to_dict
from talkverse_jax.core.errors import UserError
from talkverse_jax.models.wav2vec2 import axes, keys
from talkverse_jax.models.wav2vec2.config import COMPUTED, ENGLISH_LETTERS, Wav2Vec2Config
from talkverse_jax.models.wav2vec2.model import Wav2Vec2
from talkverse_jax.weights.component import Component
from talkverse_jax.weights.published import Origin, RandomTensors, Repository
from talkverse_jax.weights.published_files import JsonFile, Safetensors

# The feature extractor that the models were trained with; ours normalises the same way.
_EXTRACTOR = {"do_normalize": True, "sampling_rate": 16000}


def wav2vec2(name: str = "audio") -> Component:
    """The large English encoder, as a component of that name."""
    return Component(
        name=name,
        config_type=Wav2Vec2Config,
        model_type=Wav2Vec2,
        rules=keys.RULES,
        axes=axes.AXES,
        ignored=keys.IGNORED,
        real_size=Wav2Vec2Config.large_xlsr,
        dtype="float32",
    )


def wav2vec2_origin(repository: Repository) -> Origin:
    """Its files in a folder of Hugging Face's: safetensors, or an older file of PyTorch."""
    return Origin(
        repository,
        Safetensors("model", or_torch="pytorch_model.bin"),
        (
            JsonFile("config.json", check=_check_size, content=_described),
            JsonFile("preprocessor_config.json", check=_check_extractor, content=_extractor, copied=True),
        ),
        random=RandomTensors(
            also=_heads,
            # or the norm behind it would throw away how loud the sound is
            values={"*feature_extractor.conv_layers.0.conv.bias": (0.0, 1.0)},
        ),
    )


def _check_size(values: dict[str, Any], config: Wav2Vec2Config, where: str) -> None:
    wanted = to_dict(config)
    for key, value in to_dict(Wav2Vec2Config.from_huggingface(_completed(values), where)).items():
        if value != wanted[key]:
            raise UserError(
                f"{where}: of another size: {key} is {value}, not {wanted[key]}; give the large English model, or a "
                "--config of this size"
            )


def _completed(values: dict[str, Any]) -> dict[str, Any]:
    """A published `config.json` with what it leaves out: its own library's defaults, by which the original reads it."""
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")  # or it complains that PyTorch is not here
    from transformers import Wav2Vec2Config as Published  # takes a second and a half

    return Published().to_dict() | values


def _check_extractor(values: dict[str, Any], config: Wav2Vec2Config, where: str) -> None:
    del config
    for key, value in _EXTRACTOR.items():
        if values.get(key) != value:
            raise UserError(f"{where}: {key} is {values.get(key)}, not {value}; download it again")


def _heads(config: Wav2Vec2Config) -> dict[str, tuple[int, ...]]:
    """What the files have for CTC and for training."""
    return {
        "lm_head.weight": (ENGLISH_LETTERS, config.hidden_size),
        "lm_head.bias": (ENGLISH_LETTERS,),
        "wav2vec2.masked_spec_embed": (config.hidden_size,),
    }


def _described(config: Wav2Vec2Config) -> dict[str, Any]:
    told = {key: value for key, value in COMPUTED.items() if value not in (None, False)}
    return {"architectures": ["Wav2Vec2ForCTC"], **told, "vocab_size": ENGLISH_LETTERS, **to_dict(config)}


def _extractor(config: Wav2Vec2Config) -> dict[str, Any]:
    del config
    return {
        "feature_extractor_type": "Wav2Vec2FeatureExtractor",
        "do_normalize": True,
        "feature_size": 1,
        "padding_side": "right",
        "padding_value": 0.0,
        "return_attention_mask": True,
        "sampling_rate": 16000,
    }
