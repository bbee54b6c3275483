"""The published PyTorch files, found and opened: what each component is converted from."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from talkverse_jax.core.config import to_dict
from talkverse_jax.core.errors import UserError
from talkverse_jax.families.talkverse.components import COMPONENTS
from talkverse_jax.models.wav2vec2.config import ENGLISH_CTC, Wav2Vec2Config
from talkverse_jax.weights import lora
from talkverse_jax.weights import safetensors_io as safetensors
from talkverse_jax.weights.component import Component
from talkverse_jax.weights.torch_reader import read_torch

DIT_STEM = "diffusion_pytorch_model"
VAE_FILE = "Wan2.2_VAE.pth"
TEXT_FILE = "models_t5_umt5-xxl-enc-bf16.pth"
TALKVERSE_FILE = "talkverse_s2v_5b.safetensors"
TOKENIZER_FOLDER = "google/umt5-xxl"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "spiece.model")
WAV2VEC_FOLDER = "wav2vec2-large-xlsr-53-english"
WAV2VEC_STEM, WAV2VEC_TORCH = "model", "pytorch_model.bin"
EXTRACTOR_FILE = "preprocessor_config.json"

# The feature extractor that the models were trained with; ours normalises the same way.
_EXTRACTOR = {"do_normalize": True, "sampling_rate": 16000}


@dataclasses.dataclass(frozen=True)
class Published:
    """A component as it was published.

    Attributes:
      component, config: what it is, and of what size.
      tensors: what its parameters come from, by PyTorch name; mapped, not read.
      files: all files that it comes from.
      pairs: LoRA pairs by layer.
      replaced: tensors of the base model that trained ones replace.
      base, trained: the safetensors files of a DiT.
      copies: files to copy, by their place in the component's folder.
    """

    component: Component
    config: Any
    tensors: Mapping[str, np.ndarray]
    files: tuple[Path, ...]
    pairs: Mapping[str, lora.Pair] = dataclasses.field(default_factory=dict)
    replaced: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    base: tuple[safetensors.SafetensorsFile, ...] = ()
    trained: tuple[safetensors.SafetensorsFile, ...] = ()
    copies: Mapping[str, Path] = dataclasses.field(default_factory=dict)

    @property
    def tensor_files(self) -> tuple[Path, ...]:
        """Those of the files that hold tensors."""
        return tuple(f for f in self.files if f.suffix != ".json" and f not in self.copies.values())

    @property
    def where(self) -> str:
        """Where the tensors are from, for messages."""
        trained = [str(file.path) for file in self.trained]
        return " and ".join([str(self.files[0].parent if self.base else self.files[0]), *trained])


def open_published(
    name: str, config: Any, ckpt_dir: str | None, lora_ckpt: str | None, wav2vec_dir: str | None
) -> Published:
    """Find and map the files of a component.

    Args:
      config: its size.
      ckpt_dir: the folder of Wan2.2-TI2V-5B.
      lora_ckpt: the TalkVerse file (dit).
      wav2vec_dir: the folder of the English wav2vec2 (audio); by default inside `ckpt_dir`.

    Raises:
      UserError: a flag or file is missing, or a file is damaged or another one than it should be.
    """
    if name == "audio":
        if not wav2vec_dir and ckpt_dir and Path(ckpt_dir, WAV2VEC_FOLDER).is_dir():
            wav2vec_dir = str(Path(ckpt_dir, WAV2VEC_FOLDER))
        return _open_audio(config, _folder("--wav2vec_dir", wav2vec_dir, ENGLISH_CTC, name))
    folder = _folder("--ckpt_dir", ckpt_dir, "Wan-AI/Wan2.2-TI2V-5B", name)
    if name == "dit":
        if not lora_ckpt:
            raise UserError(f"--lora_ckpt: missing; give the TalkVerse file ({TALKVERSE_FILE}) to convert dit")
        return _open_dit(config, folder, Path(lora_ckpt))
    if name == "vae":
        path = folder / VAE_FILE
        return Published(COMPONENTS["vae"], config, read_torch(path), (path,))
    return _open_text(config, folder)


def _folder(flag: str, path: str | None, repository: str, component: str) -> Path:
    if not path:
        raise UserError(f"{flag}: missing; give the folder of {repository} to convert {component}")
    if not Path(path).is_dir():
        what = "is a file" if Path(path).is_file() else "no such folder"
        raise UserError(f"{flag} {path}: {what}; give the folder of {repository}")
    return Path(path)


def _open_dit(config: Any, folder: Path, trained_path: Path) -> Published:
    base = tuple(safetensors.read_shards(folder, DIT_STEM))
    trained = safetensors.read_file(trained_path)
    tensors = safetensors.merge(base)
    whole, pairs = lora.split(trained.tensors, str(trained_path))
    index = safetensors.index_file(folder, DIT_STEM)
    return Published(
        component=COMPONENTS["dit"],
        config=config,
        tensors=tensors | whole,
        files=(*(file.path for file in base), *([index] if index.is_file() else []), trained_path),
        pairs=pairs,
        replaced={name: tensors[name] for name in tensors.keys() & whole.keys()},
        base=base,
        trained=(trained,),
    )


def _open_text(config: Any, folder: Path) -> Published:
    path, tokenizer = folder / TEXT_FILE, folder / TOKENIZER_FOLDER
    tensors = read_torch(path)
    copies = {f"tokenizer/{name}": tokenizer / name for name in TOKENIZER_FILES if (tokenizer / name).is_file()}
    if "tokenizer/tokenizer.json" not in copies:
        raise UserError(f"{tokenizer / 'tokenizer.json'}: no such file; download the folder {TOKENIZER_FOLDER} again")
    return Published(COMPONENTS["text"], config, tensors, (path, *copies.values()), copies=copies)


def _open_audio(config: Wav2Vec2Config, folder: Path) -> Published:
    published = Wav2Vec2Config.from_huggingface(_read_json(folder / "config.json"), str(folder / "config.json"))
    for key, value in to_dict(published).items():
        if value != to_dict(config)[key]:
            raise UserError(
                f"{folder / 'config.json'}: of another size: {key} is {value}, not {to_dict(config)[key]}; "
                "give the large English model, or a --config of this size"
            )
    extractor = _read_json(folder / EXTRACTOR_FILE)
    for key, value in _EXTRACTOR.items():
        if extractor.get(key) != value:
            raise UserError(f"{folder / EXTRACTOR_FILE}: {key} is {extractor.get(key)}, not {value}; download it again")
    torch_file = folder / WAV2VEC_TORCH
    if torch_file.is_file() and not (folder / f"{WAV2VEC_STEM}.safetensors").is_file():
        tensors, paths = read_torch(torch_file), [torch_file]
    else:
        files = safetensors.read_shards(folder, WAV2VEC_STEM)
        tensors, paths = safetensors.merge(files), [file.path for file in files]
    return Published(
        component=COMPONENTS["audio"],
        config=config,
        tensors=tensors,
        files=(*paths, folder / EXTRACTOR_FILE),
        copies={EXTRACTOR_FILE: folder / EXTRACTOR_FILE},
    )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; download the folder again") from None
    except ValueError as error:
        raise UserError(f"{path}: not JSON ({error}); download it again") from None
    if not isinstance(values, dict):
        raise UserError(f"{path}: not a table of values; download it again")
    return values
