"""Sizes of the wav2vec2 speech encoder."""

import dataclasses
import math
from typing import Any

from talkverse_jax.core.config import from_dict
from talkverse_jax.core.errors import UserError

ENGLISH_CTC = "jonatasgrosman/wav2vec2-large-xlsr-53-english"
ENGLISH_LETTERS = 33  # its CTC vocabulary: a-z, apostrophe, hyphen, word border, four special tokens

# What the published config.json must say where it says anything: the variant that is computed here.
COMPUTED = {
    "model_type": "wav2vec2",
    "feat_extract_norm": "layer",
    "feat_extract_activation": "gelu",
    "hidden_act": "gelu",
    "conv_bias": True,
    "do_stable_layer_norm": True,
    "add_adapter": False,
    "adapter_attn_dim": None,
}


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
    def from_huggingface(cls, values: dict[str, Any], where: str) -> "Wav2Vec2Config":
        """From a Hugging Face `config.json`, whose keys of training and of the CTC head are left aside.

        Raises:
          UserError: a variant of wav2vec2 that is not computed here, the multilingual base, or a model of
            another language; or a size is missing.
        """
        for key, right in COMPUTED.items():
            if values.get(key, right) != right:
                raise UserError(f"{where}: {key} is {values[key]!r}, not {right!r}; use {ENGLISH_CTC}")
        heads = values.get("architectures")  # published files name them, reference bundles do not
        if heads and heads != ["Wav2Vec2ForCTC"]:
            raise UserError(f"{where}: a {heads[0]} (the multilingual base?), whose features differ; use {ENGLISH_CTC}")
        if heads and values.get("vocab_size") != ENGLISH_LETTERS:
            raise UserError(
                f"{where}: a CTC vocabulary of {values.get('vocab_size')}, not {ENGLISH_LETTERS} (another "
                f"language?); use {ENGLISH_CTC}"
            )
        names = [field.name for field in dataclasses.fields(cls)]
        return from_dict(cls, {name: values[name] for name in names if name in values}, where)
