"""wav2vec2 as a component of a family, and where it is published."""

import os
from collections.abc import Callable
from functools import partial
from typing import Any

from talkverse_jax.core.config import to_dict
from talkverse_jax.core.errors import UserError
from talkverse_jax.models.wav2vec2 import axes, keys
from talkverse_jax.models.wav2vec2.config import BASE, LARGE, Release, Wav2Vec2Config
from talkverse_jax.models.wav2vec2.model import Wav2Vec2
from talkverse_jax.weights.component import Component
from talkverse_jax.weights.published import Origin, RandomTensors, Repository
from talkverse_jax.weights.published_files import JsonFile, Safetensors

PREPROCESSOR = "preprocessor_config.json"  # the component keeps it


def wav2vec2(name: str = "audio") -> Component:
    """The large English encoder, as a component of that name."""
    return _component(name, keys.IGNORED, Wav2Vec2Config.large_xlsr)


def wav2vec2_base(name: str = "audio") -> Component:
    """The Chinese base encoder, as a component of that name."""
    return _component(name, keys.IGNORED_BASE, Wav2Vec2Config.base)


def _component(name: str, ignored: tuple[str, ...], real_size: Callable[[], Wav2Vec2Config]) -> Component:
    return Component(
        name=name,
        config_type=Wav2Vec2Config,
        model_type=Wav2Vec2,
        rules=keys.RULES,
        axes=axes.AXES,
        ignored=ignored,
        real_size=real_size,
        dtype="float32",
    )


def wav2vec2_origin(repository: Repository) -> Origin:
    """The large encoder's files in a folder of Hugging Face's: safetensors, or an older file of PyTorch."""
    random = RandomTensors(
        also=_heads,
        # or the norm behind it would throw away how loud the sound is
        values={"*feature_extractor.conv_layers.0.conv.bias": (0.0, 1.0)},
    )
    return _origin(repository, LARGE, normalised=True, random=random)


def wav2vec2_base_origin(repository: Repository) -> Origin:
    """The base encoder's, likewise."""
    return _origin(repository, BASE, normalised=False, random=RandomTensors(also=_quantizer))


def _origin(repository: Repository, release: Release, normalised: bool, random: RandomTensors) -> Origin:
    return Origin(
        repository,
        Safetensors("model", or_torch="pytorch_model.bin"),
        (
            JsonFile("config.json", check=partial(_check_size, release), content=partial(_described, release)),
            JsonFile(
                PREPROCESSOR,
                check=partial(_check_extractor, release),
                content=lambda _: _extractor(normalised),
                copied=True,
            ),
        ),
        random=random,
    )


def _check_size(release: Release, values: dict[str, Any], config: Wav2Vec2Config, where: str) -> None:
    wanted = to_dict(config)
    for key, value in to_dict(Wav2Vec2Config.from_huggingface(_completed(values), where, release)).items():
        if value != wanted[key]:
            raise UserError(
                f"{where}: of another size: {key} is {value}, not {wanted[key]}; give {release.kind}, or a "
                "--config of this size"
            )


def _completed(values: dict[str, Any]) -> dict[str, Any]:
    """A published `config.json` with what it leaves out: its own library's defaults, by which the original reads it."""
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")  # or it complains that PyTorch is not here
    from transformers import Wav2Vec2Config as Published  # takes a second and a half

    return Published().to_dict() | values


def _check_extractor(release: Release, values: dict[str, Any], config: Wav2Vec2Config, where: str) -> None:
    del config
    normalised = (True,) if release is LARGE else (False, True)  # what is computed for it
    for key, right in (("do_normalize", normalised), ("sampling_rate", (16000,))):
        if values.get(key) not in right:
            raise UserError(f"{where}: {key} is {values.get(key)}, not {right[0]}; download it again")


def _heads(config: Wav2Vec2Config) -> dict[str, tuple[int, ...]]:
    """What the large model's files have for CTC and for training."""
    letters = LARGE.vocabulary or 0
    return {
        "lm_head.weight": (letters, config.hidden_size),
        "lm_head.bias": (letters,),
        "wav2vec2.masked_spec_embed": (config.hidden_size,),
    }


def _quantizer(config: Wav2Vec2Config) -> dict[str, tuple[int, ...]]:
    """Some of what the base model's files have for training."""
    return {
        "quantizer.codevectors": (1, 4, 8),
        "project_q.weight": (8, 16),
        "project_q.bias": (8,),
        "wav2vec2.masked_spec_embed": (config.hidden_size,),
    }


def _described(release: Release, config: Wav2Vec2Config) -> dict[str, Any]:
    told = {key: value for key, value in release.computed.items() if value not in (None, False)}
    letters = {"vocab_size": release.vocabulary} if release.vocabulary else {}
    return {"architectures": [release.heads[0]], **told, **letters, **to_dict(config)}


def _extractor(normalised: bool) -> dict[str, Any]:
    return {
        "feature_extractor_type": "Wav2Vec2FeatureExtractor",
        "do_normalize": normalised,
        "feature_size": 1,
        "padding_side": "right",
        "padding_value": 0.0,
        "return_attention_mask": True,
        "sampling_rate": 16000,
    }
