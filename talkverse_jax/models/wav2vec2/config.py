"""Sizes of the wav2vec2 speech encoder."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Literal

from talkverse_jax.core.config import from_dict
from talkverse_jax.core.errors import UserError

ENGLISH_CTC = "jonatasgrosman/wav2vec2-large-xlsr-53-english"
ENGLISH_LETTERS = 33  # its CTC vocabulary: a-z, apostrophe, hyphen, word border, four special tokens
CHINESE_BASE = "TencentGameMate/chinese-wav2vec2-base"

_COMMON = {
    "model_type": "wav2vec2",
    "feat_extract_activation": "gelu",
    "hidden_act": "gelu",
    "add_adapter": False,
    "adapter_attn_dim": None,
}


@dataclasses.dataclass(frozen=True)
class Release:
    """A published model, by what its `config.json` says.

    Attributes:
      repository: on the Hugging Face hub.
      computed: what the file must say where it says anything.
      heads: what its weights were saved as.
      vocabulary: of its CTC head, where it has one.
      kind: in words.
      other: what a model with other heads may be.
    """

    repository: str
    computed: Mapping[str, Any]
    heads: tuple[str, ...]
    vocabulary: int | None
    kind: str
    other: str


LARGE = Release(
    ENGLISH_CTC,
    {**_COMMON, "feat_extract_norm": "layer", "conv_bias": True, "do_stable_layer_norm": True},
    ("Wav2Vec2ForCTC",),
    ENGLISH_LETTERS,
    "the large English model",
    "the multilingual base?",
)
BASE = Release(
    CHINESE_BASE,
    {**_COMMON, "feat_extract_norm": "group", "conv_bias": False, "do_stable_layer_norm": False},
    ("Wav2Vec2ForPreTraining", "Wav2Vec2Model"),
    None,
    "the Chinese base model",
    "trained further for another task?",
)


@dataclasses.dataclass(frozen=True)
class Wav2Vec2Config:
    """The encoder's architecture; field names are those of a Hugging Face `config.json`.

    Attributes:
      hidden_size: width D of the hidden states.
      num_hidden_layers, num_attention_heads, intermediate_size: the transformer's layers, heads a layer and
        feed-forward width.
      conv_dim, conv_kernel, conv_stride: channels, kernel and stride of each convolution over the waveform.
      num_conv_pos_embeddings, num_conv_pos_embedding_groups: kernel and groups of the convolution that
        tells positions.
      layer_norm_eps: of the norms behind the waveform's convolutions (theirs is 1e-5).
      feat_extract_norm: of those convolutions: "layer", each vector over its channels, in every one; or "group",
        each channel over the whole sound, in the first alone.
      conv_bias: whether they have a bias.
      do_stable_layer_norm: whether the transformer's layers norm before each stage, and once at the end; or the
        positions once, and then behind each stage.
    """

    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    conv_dim: tuple[int, ...]
    conv_kernel: tuple[int, ...]
    conv_stride: tuple[int, ...]
    num_conv_pos_embeddings: int
    num_conv_pos_embedding_groups: int
    layer_norm_eps: float
    feat_extract_norm: Literal["layer", "group"] = "layer"
    conv_bias: bool = True
    do_stable_layer_norm: bool = True

    @property
    def hop(self) -> int:
        """Samples from one hidden state to the next (320: 50 a second at 16 kHz)."""
        return math.prod(self.conv_stride)

    @property
    def field(self) -> int:
        """Samples one hidden state sees before the transformer (400: 25 ms); shorter sound gives none."""
        return 1 + sum((kernel - 1) * math.prod(self.conv_stride[:i]) for i, kernel in enumerate(self.conv_kernel))

    def frames(self, samples):
        """Hidden states of so many samples; an int or an integer array."""
        return (samples - self.field) // self.hop + 1

    def rows(self, samples: int) -> int:
        """How many of these are kept of so many samples: every second one, 25 a second."""
        return -(-self.frames(samples) // 2)

    @classmethod
    def large_xlsr(cls) -> "Wav2Vec2Config":
        """jonatasgrosman/wav2vec2-large-xlsr-53-english."""
        return cls(
            hidden_size=1024,
            num_hidden_layers=24,
            num_attention_heads=16,
            intermediate_size=4096,
            conv_dim=(512,) * 7,
            conv_kernel=(10, 3, 3, 3, 3, 2, 2),
            conv_stride=(5, 2, 2, 2, 2, 2, 2),
            num_conv_pos_embeddings=128,
            num_conv_pos_embedding_groups=16,
            layer_norm_eps=1e-5,
        )

    @classmethod
    def base(cls) -> "Wav2Vec2Config":
        """TencentGameMate/chinese-wav2vec2-base."""
        return dataclasses.replace(
            cls.large_xlsr(),
            hidden_size=768,
            num_hidden_layers=12,
            num_attention_heads=12,
            intermediate_size=3072,
            feat_extract_norm="group",
            conv_bias=False,
            do_stable_layer_norm=False,
        )

    @classmethod
    def from_huggingface(cls, values: dict[str, Any], where: str, release: Release = LARGE) -> "Wav2Vec2Config":
        """From a Hugging Face `config.json`, whose keys of training and of the CTC head are left aside.

        Raises:
          UserError: another variant of wav2vec2 than the release, a model for another purpose (such as the
            multilingual base), or of another language; or a size is missing.
        """
        right = release.repository
        for key, wanted in release.computed.items():
            if values.get(key, wanted) != wanted:
                raise UserError(f"{where}: {key} is {values[key]!r}, not {wanted!r}; use {right}")
        heads = values.get("architectures")  # published files name them, reference bundles do not
        if heads and heads[0] not in release.heads:
            raise UserError(f"{where}: a {heads[0]} ({release.other}), whose features differ; use {right}")
        if heads and release.vocabulary and values.get("vocab_size") != release.vocabulary:
            raise UserError(
                f"{where}: a CTC vocabulary of {values.get('vocab_size')}, not {release.vocabulary} (another "
                f"language?); use {right}"
            )
        names = [field.name for field in dataclasses.fields(cls)]
        told = {**release.computed, **values}
        return from_dict(cls, {name: told[name] for name in names if name in told}, where)
