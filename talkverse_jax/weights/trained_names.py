"""What the tensors of a trained file are, in any dialect: told from their names and the model's list of names.

A name is a prefix of the program that wrote it, a layer (`blocks.0.self_attn.q`, in diffusers' names, or with `_` for
`.`), and what it is of that layer. `blocks_0_cross_attn_k_img` cannot be split without knowing the layers, so none is:
it is looked up.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping

import numpy as np

from talkverse_jax.core.errors import UserError

_PREFIXES = (
    "base_model.model.",
    "pipe.dit.",
    "model.diffusion_model.",
    "diffusion_model.",
    "transformer.",
    "model.",
    "lora_unet__",
    "lora_unet_",
)
_OF_TEXT_ENCODERS = ("lora_te", "text_encoder")
_KINDS = {
    ".lora_A.weight": "down",
    ".lora_A.default.weight": "down",
    ".lora_down.weight": "down",
    ".lora_B.weight": "up",
    ".lora_B.default.weight": "up",
    ".lora_up.weight": "up",
    ".lora_B.bias": "up_bias",
    ".alpha": "alpha",
    ".diff": "weight",
    ".diff_b": "bias",
    ".diff_m": "modulation",
}
_REFUSED = {
    "dora_scale": "a DoRA",
    "lora_magnitude_vector": "a DoRA",
    "lora_mid": "a convolutional LoRA",
    "hada_": "a LoHa",
    "lokr_": "a LoKr",
    "oft_": "an OFT",
    "reshape_weight": "a LoRA for wider layers",
}
_SCALES = ("scale_weight", "weight_scale", "scaled_fp8", "comfy_quant")


@dataclasses.dataclass(frozen=True)
class Spelled:
    """The tensors of a file by what they are.

    Attributes:
      down, up, up_bias, alpha: of each layer's pair, by the layer's published name.
      written: the layers as the file writes them, without the prefix.
      added: differences by the published name of what they are added to.
      whole: tensors by their published name.
      strange: tensors of pairs and differences for which the model has no place, by their names in the file.
      unknown: whole tensors for which it has none, likewise.
      left_out: names of tensors that are for a text encoder.
      prefixes: that stood before the names.
    """

    down: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    up: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    up_bias: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    alpha: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    written: dict[str, str] = dataclasses.field(default_factory=dict)
    added: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    whole: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    strange: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    unknown: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    left_out: list[str] = dataclasses.field(default_factory=list)
    prefixes: set[str] = dataclasses.field(default_factory=set)


class Names:
    """The names of a model, as files may write them.

    Args:
      tensors: their published names.
      to_published: gives those of diffusers' names.
    """

    def __init__(self, tensors: Iterable[str], to_published: Callable[[str], str]):
        self._to_published = to_published
        self._tensors = {name: name for name in tensors}
        layers = {name.rpartition(".")[0] for name in self._tensors}
        self._layers = {layer: layer for layer in layers} | {layer.replace(".", "_"): layer for layer in layers}

    def layer(self, text: str) -> tuple[str, str, str] | None:
        """The published name of a layer, what stands before it in the text, and how the text writes it."""
        return self._find(text, self._layers)

    def tensor(self, text: str) -> tuple[str, str, str] | None:
        """The same of a tensor."""
        return self._find(text, self._tensors)

    def __contains__(self, tensor: str) -> bool:
        return tensor in self._tensors

    def _find(self, text: str, known: Mapping[str, str]) -> tuple[str, str, str] | None:
        rest = text
        while True:
            if found := known.get(self._to_published(rest)):
                return found, text.removesuffix(rest), rest
            prefix = next((prefix for prefix in _PREFIXES if rest.startswith(prefix)), None)
            if prefix is None:
                return None
            rest = rest.removeprefix(prefix)


def spell(tensors: Mapping[str, np.ndarray], names: Names, where: str) -> Spelled:
    """The tensors by what they are.

    Raises:
      UserError: the file is of a kind that is not read, or says one thing twice.
    """
    _refuse(tensors, where)
    found = Spelled()
    for name, value in tensors.items():
        if name.startswith(_OF_TEXT_ENCODERS):
            found.left_out.append(name)
            continue
        ending = next((ending for ending in _KINDS if name.endswith(ending)), None)
        if ending is None:
            place, target, kind = names.tensor(name), "", "whole"
        else:
            place, kind = names.layer(name.removesuffix(ending)), _KINDS[ending]
            target = f"{place[0]}.{kind if kind in ('bias', 'modulation') else 'weight'}" if place else ""
        if place is None or (target and target not in names):
            (found.strange if ending else found.unknown)[name] = value
            continue
        published, prefix, written = place
        if kind in ("weight", "bias", "modulation"):
            group, key = found.added, target
        else:
            group, key = getattr(found, kind), published
        if key in group:
            raise UserError(f"{where}: has {key} twice, once as {name}; get the file again")
        group[key] = value
        found.prefixes.add(prefix)
        if kind in ("down", "up"):
            found.written[published] = written
    return found


def _refuse(tensors: Mapping[str, np.ndarray], where: str) -> None:
    for name, value in tensors.items():
        for part, kind in _REFUSED.items():
            if f".{part}" in name:
                raise UserError(
                    f"{where}: is {kind} ({name}), which is not read; give a LoRA, or add it to a model with the "
                    "program that made it and convert that"
                )
        numbers = np.dtype(value.dtype).kind not in "iub" or name.endswith(".alpha")
        if name.endswith(_SCALES) or not numbers:
            raise UserError(
                f"{where}: is quantised ({name} is {value.dtype}), which is not read in trained files; give it in "
                "bfloat16, float16 or float32"
            )
