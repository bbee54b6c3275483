"""The files in which models are published, each kind a brick of a family's `published.py`: found and read, named for
the download, and written with other numbers.

Tensors are in `Safetensors` or a `TorchFile`; beside them lie a `Tokenizer` and `JsonFile`s.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from talkverse_jax.core.errors import UserError
from talkverse_jax.core.paths import replacing, write_json
from talkverse_jax.weights import safetensors_io as safetensors
from talkverse_jax.weights import sentencepiece_model, stand_ins
from talkverse_jax.weights.json_table import read_table
from talkverse_jax.weights.lazy import Tensor
from talkverse_jax.weights.mapped import MappedTensors, read_one
from talkverse_jax.weights.tiny_tokenizer import save_tiny_tokenizer
from talkverse_jax.weights.torch_writer import write_torch

Fetch = Callable[[str], Path]  # brings a file of a repository onto this machine
Shapes = Mapping[str, tuple[np.dtype, tuple[int, ...]]]  # by PyTorch name
Values = Callable[[Shapes], Iterator[np.ndarray]]  # of such tensors, in order


class TensorFiles(Protocol):
    """How a model's tensors lie in a published folder."""

    def read(self, folder: Path) -> MappedTensors:
        """Find and map them.

        Raises:
          UserError: a file is missing or damaged.
        """
        ...

    def fetch(self, fetch: Fetch) -> None:
        """Fetch the files."""

    def write(self, folder: Path, shapes: Shapes, values: Values) -> None:
        """Write other numbers as they are published."""


@dataclasses.dataclass(frozen=True)
class Safetensors:
    """`STEM.safetensors`, or shards of it with an index.

    Attributes:
      shards: that it is published in; all ways are read.
      or_torch: a file of PyTorch that may stand in its place.
      inside: a folder in the repository that they lie in.
      passed_over: files that an index may name besides its shards, as an adapter's index does.
    """

    stem: str
    shards: int = 1
    or_torch: str | None = None
    inside: str = ""
    passed_over: tuple[str, ...] = ()

    @property
    def _single(self) -> str:
        return f"{self.stem}.safetensors"

    @property
    def index(self) -> str:
        """The name of the index."""
        return f"{self.stem}.safetensors.index.json"

    def read(self, folder: Path) -> MappedTensors:
        folder = folder / self.inside
        if self.or_torch and (folder / self.or_torch).is_file() and not (folder / self._single).is_file():
            return TorchFile(self.or_torch).read(folder)
        files = tuple(safetensors.read_shards(folder, self.stem, self.passed_over))
        paths = tuple(file.path for file in files)
        index = safetensors.index_file(folder, self.stem)
        if not index.is_file():
            return MappedTensors(safetensors.merge(files), paths, files)
        return MappedTensors(safetensors.merge(files), (*paths, index), files, index)

    def fetch(self, fetch: Fetch) -> None:
        if self.shards == 1:
            fetch(self._single)
            return
        for file in sorted(set(safetensors.read_index(fetch(self.index)).values())):
            fetch(file)

    def write(self, folder: Path, shapes: Shapes, values: Values) -> None:
        if self.shards == 1:
            write_safetensors(folder / self._single, shapes, values)
            return
        parts = _split(shapes, self.shards)
        index: dict[str, Any] = {"metadata": {"total_size": _nbytes(shapes)}, "weight_map": {}}
        for number, part in enumerate(parts, 1):
            file = f"{self.stem}-{number:05d}-of-{len(parts):05d}.safetensors"
            write_safetensors(folder / file, part, values)
            index["weight_map"] |= dict.fromkeys(part, file)
        write_json(folder / self.index, index)


@dataclasses.dataclass(frozen=True)
class TorchFile:
    """One file of PyTorch, or its tensors as safetensors under the same name."""

    file: str

    def read(self, folder: Path) -> MappedTensors:
        path = folder / self.file
        other = path.with_suffix(".safetensors")
        return read_one(other if other.is_file() and not path.is_file() else path)

    def fetch(self, fetch: Fetch) -> None:
        fetch(self.file)

    def write(self, folder: Path, shapes: Shapes, values: Values) -> None:
        write_torch(folder / self.file, shapes, values(shapes))


Copies = Mapping[str, Path | bytes]  # files to copy, or what to write, by their place in the component's folder


class SmallFiles(Protocol):
    """What lies beside the tensors."""

    def read(self, folders: Sequence[Path], config: Any, tensors: Mapping[str, Tensor]) -> Copies:
        """Check the files.

        Args:
          folders: where they may lie; the first that has them counts.
          config: the component's.
          tensors: of the component's files, in which they may lie too.

        Raises:
          UserError: one is missing, or of another model.
        """
        ...

    def fetch(self, fetch: Fetch) -> None:
        """Fetch the files."""

    def write(self, folder: Path, config: Any) -> None:
        """Write such files for random weights of a size."""


@dataclasses.dataclass(frozen=True)
class Tokenizer:
    """A folder of transformers' tokenizer files; it becomes `tokenizer/`. With random weights comes a tiny one.

    In its place may stand a diffusers repository's `tokenizer`, or the files alone, or a SentencePiece model among the
    tensors, as ComfyUI stores it.
    """

    folder: str
    files: tuple[str, ...] = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "spiece.model")

    def read(self, folders: Sequence[Path], config: Any, tensors: Mapping[str, Tensor]) -> Copies:
        del config
        for home in (folder / inside for folder in folders for inside in (self.folder, "tokenizer", ".")):
            if (home / "tokenizer.json").is_file():
                found = {f"tokenizer/{name}": home / name for name in self.files if (home / name).is_file()}
                for path in found.values():
                    stand_ins.refuse(path)
                return found
        for name, value in tensors.items():
            if name.rpartition(".")[2] == sentencepiece_model.TENSOR:
                files = sentencepiece_model.tokenizer_files(np.asarray(value).tobytes(), name)
                return {f"tokenizer/{file}": content for file, content in files.items()}
        missing = folders[0] / self.folder / "tokenizer.json"
        raise UserError(
            f"{missing}: no such file, nor a {sentencepiece_model.TENSOR} among the tensors; download the folder "
            f"{self.folder} to there"
        )

    def fetch(self, fetch: Fetch) -> None:
        for name in self.files:
            fetch(f"{self.folder}/{name}")

    def write(self, folder: Path, config: Any) -> None:
        del config
        save_tiny_tokenizer(folder / self.folder)


@dataclasses.dataclass(frozen=True)
class JsonFile:
    """A table of values.

    Attributes:
      check: called with the values, the component's config and the file's name; raises UserError where they do not
        fit.
      content: the values for a config, where weights are random.
      copied: whether the component keeps it.
    """

    file: str
    check: Callable[[dict[str, Any], Any, str], None]
    content: Callable[[Any], dict[str, Any]]
    copied: bool = False

    def read(self, folders: Sequence[Path], config: Any, tensors: Mapping[str, Tensor]) -> Copies:
        del tensors
        path = folders[0] / self.file
        self.check(read_table(path), config, str(path))
        return {self.file: path} if self.copied else {}

    def fetch(self, fetch: Fetch) -> None:
        fetch(self.file)

    def write(self, folder: Path, config: Any) -> None:
        write_json(folder / self.file, self.content(config))


def write_safetensors(path: Path, shapes: Shapes, values: Values) -> None:
    """One file, tensor by tensor, with a header as PyTorch's users write it."""
    with replacing(path) as partial:
        safetensors.write_file(partial, safetensors.make_header(shapes, {"format": "pt"}), values(shapes))


def _split(shapes: Shapes, parts: int) -> list[dict[str, tuple[np.dtype, tuple[int, ...]]]]:
    """Runs of tensors of about the same number of bytes."""
    shards: list[dict[str, tuple[np.dtype, tuple[int, ...]]]] = [{} for _ in range(parts)]
    total, done = _nbytes(shapes), 0
    for name, (dtype, shape) in shapes.items():
        shards[min(parts - 1, parts * done // total)][name] = (dtype, shape)
        done += dtype.itemsize * math.prod(shape)
    return [shard for shard in shards if shard]


def _nbytes(shapes: Shapes) -> int:
    return sum(dtype.itemsize * math.prod(shape) for dtype, shape in shapes.values())
