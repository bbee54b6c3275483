"""TalkVerse's published files in tests: converted, and what they come to by the plainest program."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from talkverse_jax.convert.convert import convert
from talkverse_jax.convert.options import ConvertOptions
from talkverse_jax.families.talkverse.components import ModelConfigs
from talkverse_jax.families.talkverse.family import FAMILY
from talkverse_jax.families.talkverse.published import ADAPTER, SOURCES, WAN, WAV2VEC2
from talkverse_jax.families.talkverse.settings import Sources
from talkverse_jax.weights.published_files import TorchFile
from talkverse_jax.weights.torch_reader import read_torch


def files_in(folder: Path) -> dict[str, Path]:
    """By flag, all that was published in a folder."""
    return {
        WAN.flag: folder / WAN.folder,
        ADAPTER.flag: folder / ADAPTER.file,
        WAV2VEC2.flag: folder / WAV2VEC2.folder,
    }


def converted(output: Path, configs: ModelConfigs, files: Mapping[str, Path | str], **options: Any) -> Path:
    """Convert published files, by flag, into a folder; returns it."""
    sources = Sources(**{flag: str(path) for flag, path in files.items()})
    convert(FAMILY, ConvertOptions(output=str(output), **options), sources, configs)
    return output


def float32_tensors(folder: Path, name: str, rank: int, alpha: float) -> dict[str, np.ndarray]:
    """PyTorch tensors of a component under `folder`, a random checkpoint, LoRA pairs merged."""
    base, tensors = folder / WAN.folder, {}
    if name == "dit":
        for path in [*sorted(base.glob("*.safetensors")), folder / ADAPTER.file]:
            tensors |= {key: value.astype(np.float32) for key, value in load_file(path).items()}
        for layer in [key.removesuffix(".lora_A.weight") for key in tensors if key.endswith("lora_A.weight")]:
            factors = tensors.pop(f"{layer}.lora_B.weight"), tensors.pop(f"{layer}.lora_A.weight")
            tensors[f"{layer}.weight"] += np.float32(alpha / rank) * (factors[0] @ factors[1])
    elif name == "audio":
        tensors = load_file(folder / WAV2VEC2.folder / "model.safetensors")
    else:
        file = SOURCES[name].tensors
        assert isinstance(file, TorchFile)
        tensors = read_torch(base / file.file)
    return {key: np.asarray(value, np.float32) for key, value in tensors.items()}
