"""What the published files of a component come to, by the plainest program."""

from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from talkverse_jax.convert import published
from talkverse_jax.convert.random_checkpoint import BASE_FOLDER
from talkverse_jax.weights.torch_reader import read_torch


def flags(folder: Path) -> dict[str, str]:
    """Of the conversion, for all that was published in a folder."""
    return {
        "ckpt_dir": str(folder / BASE_FOLDER),
        "lora_ckpt": str(folder / published.TALKVERSE_FILE),
        "wav2vec_dir": str(folder / published.WAV2VEC_FOLDER),
    }


def float32_tensors(folder: Path, name: str, rank: int, alpha: float) -> dict[str, np.ndarray]:
    """PyTorch tensors of a component under `folder`, a random checkpoint, LoRA pairs merged."""
    base = folder / BASE_FOLDER
    if name == "dit":
        tensors = {}
        for path in [*sorted(base.glob("*.safetensors")), folder / published.TALKVERSE_FILE]:
            tensors |= {key: value.astype(np.float32) for key, value in load_file(path).items()}
        for layer in [key.removesuffix(".lora_A.weight") for key in tensors if key.endswith("lora_A.weight")]:
            factors = tensors.pop(f"{layer}.lora_B.weight"), tensors.pop(f"{layer}.lora_A.weight")
            tensors[f"{layer}.weight"] += np.float32(alpha / rank) * (factors[0] @ factors[1])
    elif name == "audio":
        tensors = load_file(folder / published.WAV2VEC_FOLDER / "model.safetensors")
    else:
        tensors = read_torch(base / (published.VAE_FILE if name == "vae" else published.TEXT_FILE))
    return {key: np.asarray(value, np.float32) for key, value in tensors.items()}
