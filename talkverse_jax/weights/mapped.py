"""The tensors of one model, mapped and not read, out of files of any container."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from talkverse_jax.core.errors import UserError
from talkverse_jax.core.paths import existing_file
from talkverse_jax.weights import gguf_reader
from talkverse_jax.weights import safetensors_io as safetensors
from talkverse_jax.weights.lazy import Tensor
from talkverse_jax.weights.torch_reader import read_torch

_TORCH = (b"PK\x03\x04", b"\x80\x02")


@dataclasses.dataclass(frozen=True)
class MappedTensors:
    """Attributes:
    tensors: by the names that the files have for them.
    paths: the files that hold them, then an index of them.
    files: the safetensors files among them.
    index: the index, where there is one.
    kind: what they lie in, for people, where numbers are other than they lie there; or empty.
    """

    tensors: Mapping[str, Tensor]
    paths: tuple[Path, ...]
    files: tuple[safetensors.SafetensorsFile, ...] = ()
    index: Path | None = None
    kind: str = ""


def read_one(path: str | Path) -> MappedTensors:
    """Map a file of any name; what it is, its first bytes tell.

    Raises:
      UserError: it is missing or damaged, or of a kind that is not read.
    """
    path = existing_file(path, "a .safetensors, .pth or .gguf file")
    if path.suffix == ".json":
        raise UserError(f"{path}: is a map or an index without tensors; give the .safetensors file that it belongs to")
    with path.open("rb") as file:
        first = file.read(4)
    if first == gguf_reader.MAGIC:
        tensors, kinds = gguf_reader.read_gguf(path)
        return MappedTensors(tensors, (path,), kind=f"GGUF ({kinds})")
    if first.startswith(_TORCH):
        return MappedTensors(read_torch(path), (path,))
    found = safetensors.read_file(path)
    return MappedTensors(found.tensors, (path,), (found,))
