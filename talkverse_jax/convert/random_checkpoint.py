"""Checkpoints of any size with random weights, in the layout the real ones are published in.

    python -m talkverse_jax.convert.random_checkpoint --config configs/model_tiny.toml --output DIR

For tests and benchmarks: outputs stay finite, and say nothing.
"""

import argparse
import json
import math
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from talkverse_jax.convert import published
from talkverse_jax.convert.tiny_tokenizer import save_tiny_tokenizer
from talkverse_jax.core import tree
from talkverse_jax.core.config import to_dict
from talkverse_jax.core.errors import run_command
from talkverse_jax.core.paths import new_folder
from talkverse_jax.families.talkverse.components import COMPONENTS, ModelConfigs
from talkverse_jax.weights import match
from talkverse_jax.weights import safetensors_io as safetensors
from talkverse_jax.weights.torch_writer import write_torch

BASE_FOLDER = "Wan2.2-TI2V-5B"
LORA_RANK = 128

# What a TalkVerse file holds whole: the parts the base model lacks, and those that were trained again.
_ADAPTER = ("casual_audio_encoder", "audio_injector", "trainable_cond_mask", "frame_packer")
_RETRAINED = ("time_embedding", "time_projection", "head")
_WITH_PAIRS = re.compile(r"(blocks\.\d+\.(?:(?:self|cross)_attn\.[qko]|ffn\.[02]))\.weight")
_SHARDS = 3
_BLOCK = 16 * 1024**2  # values drawn at once

_F32, _BF16 = np.dtype(np.float32), np.dtype(ml_dtypes.bfloat16)
Shapes = Mapping[str, tuple[np.dtype, tuple[int, ...]]]


def write_random_checkpoint(
    folder: str | Path,
    configs: ModelConfigs,
    seed: int,
    components: Iterable[str] = tuple(COMPONENTS),
    lora_rank: int = LORA_RANK,
) -> dict[str, Path]:
    """Write a checkpoint, tensor by tensor; the same seed gives the same values.

    Returns:
      The flags `ckpt_dir`, `lora_ckpt` and `wav2vec_dir` for the conversion.
    """
    folder = new_folder(folder)
    paths = {
        "ckpt_dir": folder / BASE_FOLDER,
        "lora_ckpt": folder / published.TALKVERSE_FILE,
        "wav2vec_dir": folder / published.WAV2VEC_FOLDER,
    }
    for path in (paths["ckpt_dir"], paths["wav2vec_dir"]):
        new_folder(path)
    for name in components:
        config = getattr(configs, name)
        shapes = torch_shapes(name, config)
        if name == "dit":
            _write_dit(paths["ckpt_dir"], paths["lora_ckpt"], shapes, seed, lora_rank)
        elif name == "vae":
            typed = {tensor: (_F32, shape) for tensor, shape in shapes.items()}
            write_torch(paths["ckpt_dir"] / published.VAE_FILE, typed, _values(typed, seed))
        elif name == "text":
            typed = {tensor: (_BF16, shape) for tensor, shape in shapes.items()}
            write_torch(paths["ckpt_dir"] / published.TEXT_FILE, typed, _values(typed, seed))
            save_tiny_tokenizer(paths["ckpt_dir"] / published.TOKENIZER_FOLDER)
        else:
            _write_audio(paths["wav2vec_dir"], config, shapes, seed)
    return paths


def torch_shapes(name: str, config: Any) -> dict[str, tuple[int, ...]]:
    """The PyTorch names and shapes of a component of this size."""
    component = COMPONENTS[name]
    return match.torch_shapes(tree.abstract_parameters(component.abstract(config)), component.rules)


def is_adapter(name: str) -> bool:
    """Whether a tensor of the DiT is in the TalkVerse file alone."""
    return name.startswith(_ADAPTER)


def _write_dit(folder: Path, trained: Path, shapes: Mapping[str, tuple[int, ...]], seed: int, rank: int) -> None:
    base = {n: (_F32, shape) for n, shape in shapes.items() if not is_adapter(n)}
    shards = _split(base, _SHARDS)
    index = {"metadata": {"total_size": _nbytes(base)}, "weight_map": {}}
    for number, shard in enumerate(shards, 1):
        file = f"{published.DIT_STEM}-{number:05d}-of-{len(shards):05d}.safetensors"
        _write_safetensors(folder / file, shard, seed)
        index["weight_map"] |= dict.fromkeys(shard, file)
    safetensors.index_file(folder, published.DIT_STEM).write_text(json.dumps(index, indent=2) + "\n")

    _write_safetensors(trained, trained_shapes(shapes, rank), seed + 1)


def trained_shapes(shapes: Mapping[str, tuple[int, ...]], rank: int) -> Shapes:
    """What a TalkVerse file holds of a DiT's tensors, and its LoRA pairs."""
    trained = {n: (_BF16, shape) for n, shape in shapes.items() if n.startswith((*_ADAPTER, *_RETRAINED))}
    for name, shape in shapes.items():
        if found := _WITH_PAIRS.fullmatch(name):
            trained[f"{found[1]}.lora_A.weight"] = (_BF16, (rank, shape[1]))
            trained[f"{found[1]}.lora_B.weight"] = (_BF16, (shape[0], rank))
    return trained


def _write_audio(folder: Path, config: Any, shapes: Mapping[str, tuple[int, ...]], seed: int) -> None:
    width, letters = config.hidden_size, 33
    heads = {
        "lm_head.weight": (letters, width),
        "lm_head.bias": (letters,),
        "wav2vec2.masked_spec_embed": (width,),
    }
    typed = {name: (_F32, shape) for name, shape in {**shapes, **heads}.items()}
    _write_safetensors(folder / f"{published.WAV2VEC_STEM}.safetensors", typed, seed)
    described = {
        "architectures": ["Wav2Vec2ForCTC"],
        "model_type": "wav2vec2",
        "feat_extract_norm": "layer",
        "feat_extract_activation": "gelu",
        "hidden_act": "gelu",
        "conv_bias": True,
        "do_stable_layer_norm": True,
        "vocab_size": letters,
        **to_dict(config),
    }
    extractor = {
        "feature_extractor_type": "Wav2Vec2FeatureExtractor",
        "do_normalize": True,
        "feature_size": 1,
        "padding_side": "right",
        "padding_value": 0.0,
        "return_attention_mask": True,
        "sampling_rate": 16000,
    }
    (folder / "config.json").write_text(json.dumps(described, indent=2) + "\n")
    (folder / published.EXTRACTOR_FILE).write_text(json.dumps(extractor, indent=2) + "\n")


def _write_safetensors(path: Path, typed: Shapes, seed: int) -> None:
    safetensors.write_file(path, safetensors.make_header(typed, {"format": "pt"}), _values(typed, seed))


def _values(typed: Shapes, seed: int) -> Iterator[np.ndarray]:
    """Normal noise, seeded by each tensor's name; kernels keep the variance of what passes through."""
    for name, (dtype, shape) in typed.items():
        rng = np.random.Generator(np.random.PCG64([seed, zlib.crc32(name.encode())]))
        mean, std = _mean_and_std(name, shape)
        value = np.empty(shape, dtype)
        flat = value.reshape(-1)
        for start in range(0, flat.size, _BLOCK):
            part = rng.standard_normal(min(_BLOCK, flat.size - start), dtype=np.float32)
            part *= np.float32(std)
            part += np.float32(mean)
            flat[start : start + _BLOCK] = part
        yield value


def _mean_and_std(name: str, shape: tuple[int, ...]) -> tuple[float, float]:
    last = name.rsplit(".", 1)[-1]
    if name.endswith(("lora_A.weight", "lora_B.weight")):
        return 0.0, 0.1 / math.sqrt(shape[1])
    if name == "casual_audio_encoder.weights":  # of the layers' average
        return 0.03, 0.005
    if name.endswith("feature_extractor.conv_layers.0.conv.bias"):
        return 0.0, 1.0  # or the norm behind it would throw away how loud the sound is
    if last == "gamma" or (last == "weight" and len(shape) == 1) or last in ("weight_g", "original0"):
        return 1.0, 0.1
    if len(shape) < 2 or last in ("bias", "modulation", "padding_tokens", "masked_spec_embed"):
        return 0.0, 0.1
    return 0.0, 1 / math.sqrt(math.prod(shape[1:]))


def _split(typed: Shapes, parts: int) -> list[dict[str, tuple[np.dtype, tuple[int, ...]]]]:
    """Runs of tensors of about the same number of bytes."""
    shards: list[dict] = [{} for _ in range(parts)]
    total, done = _nbytes(typed), 0
    for name, (dtype, shape) in typed.items():
        shards[min(parts - 1, parts * done // total)][name] = (dtype, shape)
        done += dtype.itemsize * math.prod(shape)
    return [shard for shard in shards if shard]


def _nbytes(typed: Shapes) -> int:
    return sum(dtype.itemsize * math.prod(shape) for dtype, shape in typed.values())


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m talkverse_jax.convert.random_checkpoint",
        description="Write a checkpoint with random weights in the published layout.",
    )
    parser.add_argument("--output", metavar="DIR", required=True, help="where to")
    parser.add_argument("--config", metavar="FILE", help="TOML file of sizes (default: the real ones, 34 GB)")
    parser.add_argument("--seed", type=int, default=0, help="default: 0")
    parser.add_argument("--lora_rank", type=int, default=LORA_RANK, help=f"default: {LORA_RANK}")
    args = parser.parse_args()
    configs = ModelConfigs.from_toml(args.config) if args.config else ModelConfigs.real_size()
    for path in write_random_checkpoint(args.output, configs, args.seed, lora_rank=args.lora_rank).values():
        print(path)


if __name__ == "__main__":
    run_command(main)
