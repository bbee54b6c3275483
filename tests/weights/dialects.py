"""One training in every dialect: the same pairs and differences as each program would write them.

A training is a dict of layers by published name; `write` gives the tensors of a dialect, with the alphas where that
dialect has them.
"""

import dataclasses
import functools
import json
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from safetensors.numpy import save_file

from talkverse_jax.core import tree
from talkverse_jax.families.talkverse.components import COMPONENTS
from talkverse_jax.models.wan.diffusers_names import to_diffusers
from tests.tiny import TINY

DIT = COMPONENTS["dit"]
SHAPES = tree.abstract_parameters(DIT.abstract(TINY))
SIZES = {name: home.shape for name, home in DIT.homes(SHAPES).items()}
LAYERS = ("blocks.0.self_attn.q", "blocks.0.cross_attn.k", "blocks.1.self_attn.o", "blocks.2.ffn.0", "blocks.2.ffn.2")


def normal(name: str, *shape: int) -> np.ndarray:
    rng = np.random.default_rng([len(name), *name.encode(), *shape])
    return rng.standard_normal(shape, dtype=np.float32) / 8


@functools.cache
def _values() -> dict[str, np.ndarray]:
    return {path: normal(path, *leaf.shape) for path, leaf in SHAPES.items()}


def parameters(dtype=jnp.float32) -> tree.Flat:
    """The values of a tiny transformer."""
    return {path: jnp.asarray(value, dtype) for path, value in _values().items()}


@dataclasses.dataclass(frozen=True)
class Training:
    """What was learnt: ranks and alphas by layer (alpha None: the rank's), and differences by tensor.

    Attributes:
      seed: of its numbers.
    """

    ranks: dict[str, int]
    alphas: dict[str, float] | None = None
    diffs: tuple[str, ...] = ()
    seed: str = ""

    def pair(self, layer: str) -> tuple[np.ndarray, np.ndarray]:
        """A [r, in] and B [out, r]."""
        out, inputs = SIZES[f"{layer}.weight"]
        rank = self.ranks[layer]
        return normal(f"{self.seed}{layer}.a", rank, inputs), normal(f"{self.seed}{layer}.b", out, rank)

    def diff(self, tensor: str) -> np.ndarray:
        return normal(f"{self.seed}{tensor}.diff", *SIZES[tensor])

    def differences(self, strength: float = 1.0) -> dict[str, np.ndarray]:
        """By tensor, in PyTorch's layout: the plainest program."""
        found = {}
        for layer, rank in self.ranks.items():
            a, b = self.pair(layer)
            alpha = self.alphas[layer] if self.alphas else rank
            found[f"{layer}.weight"] = strength * alpha / rank * (b.astype(np.float64) @ a)
        for tensor in self.diffs:
            found[tensor] = found.get(tensor, 0) + strength * self.diff(tensor).astype(np.float64)
        return found


ONE_ALPHA = Training(dict.fromkeys(LAYERS, 4), dict.fromkeys(LAYERS, 2.0))
MIXED = Training(
    {layer: rank for layer, rank in zip(LAYERS, (2, 4, 8, 3, 1))}, dict(zip(LAYERS, (1.0, 8.0, 2.0, 3.0, 5.0)))
)
NO_ALPHA = Training({layer: rank for layer, rank in zip(LAYERS, (2, 4, 8, 3, 1))})
DIFFS = (
    "blocks.0.self_attn.q.weight",
    "blocks.0.self_attn.q.bias",
    "blocks.0.self_attn.norm_q.weight",
    "blocks.1.norm3.weight",
    "blocks.1.norm3.bias",
    "blocks.1.modulation",
    "head.modulation",
    "patch_embedding.weight",
)
EXTRACTED = dataclasses.replace(MIXED, diffs=DIFFS)


def _pairs(training: Training, name_of, down: str, up: str, alpha: str | None = None) -> dict[str, np.ndarray]:
    tensors = {}
    for layer in training.ranks:
        a, b = training.pair(layer)
        tensors |= {name_of(layer) + down: a, name_of(layer) + up: b}
        if alpha and training.alphas:
            tensors[name_of(layer) + alpha] = np.array(training.alphas[layer], np.float32)
    return tensors


def _extracted(training: Training) -> dict[str, np.ndarray]:
    tensors = _pairs(
        training, lambda layer: f"diffusion_model.{layer}", ".lora_down.weight", ".lora_up.weight", ".alpha"
    )
    endings = {"weight": "diff", "bias": "diff_b", "modulation": "diff_m"}
    for tensor in training.diffs:
        layer, _, part = tensor.rpartition(".")
        tensors[f"diffusion_model.{layer}.{endings[part]}"] = training.diff(tensor)
    return tensors


def _kohya(prefix: str):
    name_of = lambda layer: prefix + layer.replace(".", "_")  # noqa: E731
    return lambda training: _pairs(training, name_of, ".lora_down.weight", ".lora_up.weight", ".alpha")


def _dotted(prefix: str, name=lambda layer: layer, default: str = "", alpha: str | None = ".alpha"):
    ends = (f".lora_A{default}.weight", f".lora_B{default}.weight")
    return lambda training: _pairs(training, lambda layer: prefix + name(layer), *ends, alpha)


DIALECTS = {
    "published": _dotted("", alpha=None),
    "published, model.": _dotted("model.", alpha=None),
    "DiffSynth": _dotted("", default=".default"),
    "DiffSynth without default": _dotted(""),
    "DiffSynth, pipe.dit.": _dotted("pipe.dit.", default=".default"),
    "ComfyUI, diffusion-pipe, ai-toolkit": _dotted("diffusion_model."),
    "lightx2v": _extracted,
    "musubi-tuner, kohya": _kohya("lora_unet_"),
    "VideoX-Fun": _kohya("lora_unet__"),
    "PEFT": _dotted("base_model.model.", alpha=None),
    "diffusers": _dotted("transformer.", to_diffusers, alpha=None),
    "musubi to diffusers": _dotted("transformer.", alpha=None),
}
WITH_ALPHA_TENSORS = tuple(
    name for name in DIALECTS if not name.startswith(("published", "PEFT", "diffusers", "musubi to"))
)


def write(path: Path, tensors: dict[str, np.ndarray], metadata: dict[str, str] | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: np.ascontiguousarray(value) for name, value in tensors.items()}, path, metadata)
    return path


def peft(folder: Path, training: Training, **config) -> Path:
    """A folder as PEFT saves it."""
    path = write(folder / "adapter_model.safetensors", DIALECTS["PEFT"](training))
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA"} | config))
    return path


def diffusers(path: Path, training: Training, **config) -> Path:
    """A file as diffusers saves it."""
    values = {f"transformer.{name}": value for name, value in config.items()}
    metadata = {"format": "pt", "lora_adapter_metadata": json.dumps(values)}
    return write(path, DIALECTS["diffusers"](training), metadata)
