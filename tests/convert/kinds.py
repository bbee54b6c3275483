"""The toy checkpoint as other programs would hold it: files of every kind, written here."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter

from talkverse_jax.convert.convert import convert
from talkverse_jax.convert.options import ConvertOptions
from talkverse_jax.core.reporting import Reporter
from talkverse_jax.families.talkverse.family import FAMILY
from talkverse_jax.families.talkverse.settings import Sources
from talkverse_jax.weights import manifest, orbax_io, store
from talkverse_jax.weights import safetensors_io as st
from talkverse_jax.weights.torch_reader import read_torch
from tests.conftest import CONFIGS

TOY = CONFIGS.parent / "assets" / "toy"
WAN = TOY / "Wan2.2-TI2V-5B"
TRAINED = TOY / "talkverse_s2v_5b.safetensors"
SIZES = FAMILY.configs_from_toml(CONFIGS / "model_toy.toml")
Tensors = dict[str, np.ndarray]


def published(name: str) -> Tensors:
    """The tensors of a component's published file."""
    if name == "dit":
        return dict(st.read_file(WAN / "diffusion_pytorch_model.safetensors").tensors)
    return read_torch(WAN / {"vae": "Wan2.2_VAE.pth", "text": "models_t5_umt5-xxl-enc-bf16.pth"}[name])


class Lines(Reporter):
    """Keeps what is said."""

    def __init__(self):
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)


@dataclasses.dataclass(frozen=True)
class Converted:
    """Attributes:
    arrays: of a component, by our path.
    kind: by the manifest.
    notes: what was said, but for the summary and the line of the trained file.
    """

    arrays: Tensors
    kind: str
    notes: list[str]


def converted(output: Path, name: str, dtype: str = "auto", **files: Path) -> Converted:
    """Convert a component; of the DiT with the toy's own trained file."""
    sources = Sources(
        **{flag: str(path) for flag, path in files.items()}, lora_ckpt=str(TOY / "talkverse_s2v_5b.safetensors")
    )
    lines = Lines()
    convert(FAMILY, ConvertOptions(output=str(output), components=(name,), dtype=dtype), sources, SIZES, lines)
    folder = output / name / store.PARAMETERS
    notes = [line for line in lines.said[:-1] if not line.startswith("talkverse_s2v_5b.safetensors: ")]
    return Converted(orbax_io.read(folder, orbax_io.shapes(folder)), manifest.read(output)[name].kind, notes)


def assert_same(found: Tensors, wanted: Tensors) -> None:
    """Bit for bit."""
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        assert found[name].dtype == value.dtype, name
        assert np.asarray(found[name]).tobytes() == np.asarray(value).tobytes(), name


def save(path: Path, tensors: Mapping[str, np.ndarray], metadata: dict[str, str] | None = None) -> Path:
    """A safetensors file of any dtypes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {name: np.asarray(value) for name, value in tensors.items()}
    header = st.make_header({name: (value.dtype, value.shape) for name, value in tensors.items()}, metadata or {})
    st.write_file(path, header, tensors.values())
    return path


def save_gguf(path: Path, tensors: Mapping[str, tuple[np.ndarray, str]], original: Mapping[str, tuple] = {}) -> Path:
    """A GGUF file of stored data and their kinds.

    Args:
      original: shapes that some had before they were given rows.
    """
    writer = GGUFWriter(path, "wan")
    for name, (data, kind) in tensors.items():
        plain = data.dtype in (np.float32, np.float16)
        raw = {} if plain else {"raw_dtype": GGMLQuantizationType[kind]}
        writer.add_tensor(name, np.ascontiguousarray(data), **raw)
        if name in original:
            writer.add_array(f"comfy.gguf.orig_shape.{name}", [int(length) for length in original[name]])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def q8_0(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows in blocks of 32 numbers, a float16 scale and 32 bytes each, and what they stand for."""
    blocks = values.astype(np.float32).reshape(len(values), -1, 32)
    scales = (np.abs(blocks).max(-1, keepdims=True) / 127).astype(np.float16)
    bytes_ = np.rint(blocks / np.where(scales, scales, 1).astype(np.float32)).astype(np.int8)
    stored = np.concatenate([scales.view(np.uint8), bytes_.view(np.uint8)], -1).reshape(len(values), -1)
    return stored, (scales.astype(np.float32) * bytes_).reshape(values.shape)
