"""Where a family's components come from: a record for each of its published files, from which they are fetched,
opened, exported, and made with random numbers.

    SOURCES = {
        "vae": Origin(Repository("ckpt_dir", "Wan-AI/Wan2.2-TI2V-5B"), TorchFile("Wan2.2_VAE.pth")),
        ...
    }

The kinds of files are in `published_files.py`.
"""

import dataclasses
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from talkverse_jax.core import tree
from talkverse_jax.core.errors import UserError
from talkverse_jax.weights import lora
from talkverse_jax.weights import safetensors_io as safetensors
from talkverse_jax.weights.asked import NOTHING, Asked, TrainedFile
from talkverse_jax.weights.checkpoint import understand
from talkverse_jax.weights.component import Component
from talkverse_jax.weights.lazy import Tensor
from talkverse_jax.weights.manifest import PUBLISHED
from talkverse_jax.weights.mapped import read_one
from talkverse_jax.weights.published_files import Copies, Shapes, SmallFiles, TensorFiles, TorchFile
from talkverse_jax.weights.trained import TrainedTensors, open_all


@dataclasses.dataclass(frozen=True)
class Repository:
    """A folder of the Hugging Face hub.

    Attributes:
      flag: of the family's `Sources`, that names the folder on this machine.
      name: on the hub, OWNER/FOLDER.
      inside: the flag of a folder in which it may lie under its own name, where `flag` is not given.
    """

    flag: str
    name: str
    inside: str | None = None

    @property
    def folder(self) -> str:
        """Its own name."""
        return self.name.rpartition("/")[2]

    def locate(self, sources: Any, component: str, or_else: str = "") -> Path:
        """The folder on this machine.

        Args:
          sources: the family's flags.
          component: what it is needed for, for the error.
          or_else: what may be given instead, likewise.

        Raises:
          UserError: the flag is missing, or no folder is there.
        """
        path = getattr(sources, self.flag)
        if not path and self.inside and (outer := getattr(sources, self.inside)):
            nested = Path(outer, self.folder)
            path = str(nested) if nested.is_dir() else None
        if not path:
            raise UserError(f"missing; give the folder of {self.name} to convert {component}{or_else}", field=self.flag)
        if not Path(path).is_dir():
            what = "is a file" if Path(path).is_file() else "no such folder"
            raise UserError(f"{path}: {what}; give the folder of {self.name}{or_else}", field=self.flag)
        return Path(path)


@dataclasses.dataclass(frozen=True)
class AdapterFile:
    """A safetensors file that was trained upon a base model: whole tensors in place of the base's or new to it, and
    LoRA pairs.

    Attributes:
      flag: of the family's `Sources`, that names the file on this machine, or a folder with it, or the file and others
        to lay over it.
      repository: on the hub, OWNER/FOLDER.
      file: its name there.
      title: for people.
      adds: how the names of those tensors begin that the base model lacks, regular expressions.
      replaces: how the names of those begin that were trained again, whole, likewise.
      pairs: the names of the layers that have pairs, a regular expression.
      dtype: of its tensors.
      variants: folders of the repository, each with such a file.
    """

    flag: str
    repository: str
    file: str
    title: str
    adds: tuple[str, ...] = ()
    replaces: tuple[str, ...] = ()
    pairs: str | None = None
    dtype: str = "bfloat16"
    variants: tuple[str, ...] = ()

    def given(self, sources: Any) -> tuple[Path, ...]:
        """The file on this machine, and what is laid over it, as its flag names them; none where it is not given.
        Whether they are there, their reader tells.

        Raises:
          UserError: it is a folder that has no such file, or several.
        """
        paths = getattr(sources, self.flag) or ()
        first, *others = (paths,) if isinstance(paths, str) else paths or (None,)
        return () if first is None else (self._inside(Path(first)), *map(Path, others))

    def _inside(self, path: Path) -> Path:
        if not path.is_dir():
            return path
        found = [file for inside in ("", *self.variants) if (file := path / inside / self.file).is_file()]
        if not found:
            raise UserError(
                f"{path}: has no {self.file}; give {self.title}, or the folder that it is in", field=self.flag
            )
        if len(found) > 1:
            raise UserError(f"{path}: has {' and '.join(map(str, found))}; give one of them", field=self.flag)
        return found[0]

    @property
    def on_hub(self) -> str:
        """The place of the file in its repository; of several, the first."""
        return "/".join((*self.variants[:1], self.file))

    def is_new(self, name: str) -> bool:
        """Whether the base model lacks a tensor."""
        return _begins(name, self.adds)

    def shapes(self, shapes: Mapping[str, tuple[int, ...]], rank: int) -> Shapes:
        """What the file holds of a model's tensors, and pairs of that rank.

        Args:
          shapes: of the model, by PyTorch name.
        """
        dtype = np.dtype(self.dtype)
        found = {n: (dtype, shape) for n, shape in shapes.items() if _begins(n, (*self.adds, *self.replaces))}
        for name, shape in shapes.items():
            layer = name.removesuffix(".weight")
            if self.pairs and name != layer and re.fullmatch(self.pairs, layer):
                found[layer + lora.A] = (dtype, (rank, shape[1]))
                found[layer + lora.B] = (dtype, (shape[0], rank))
        return found


def _begins(name: str, patterns: tuple[str, ...]) -> bool:
    return any(re.match(pattern, name) for pattern in patterns)


@dataclasses.dataclass(frozen=True)
class RandomTensors:
    """How random numbers stand in for a component's published ones.

    Attributes:
      dtype: that the tensors are published in.
      also: the tensors that its files have besides and the model does not use, for a config.
      values: mean and deviation, by shell pattern of the names for which the rule of thumb is wrong.
    """

    dtype: str = "float32"
    also: Callable[[Any], Mapping[str, tuple[int, ...]]] = lambda config: {}
    values: Mapping[str, tuple[float, float]] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Published:
    """A component as it was published: mapped, not read.

    Attributes:
      component, config: what it is, and of what size.
      tensors: what its parameters come from, by PyTorch name.
      files: all files that it comes from.
      kind: what they are, see `checkpoint.Understood`.
      as_published: whether they hold these very numbers under these very names, and nothing else.
      notes: what was assumed or changed of them, for people.
      where: the tensors are from, for messages.
      base: the safetensors files that hold the (base) model; none where it is published otherwise.
      index: of these, where there is one.
      trained: the files that were trained upon it.
      replaced: tensors of the base model that trained ones replace or change.
      copies: files to copy, or what to write, by their place in the component's folder.
    """

    component: Component
    config: Any
    tensors: Mapping[str, Tensor]
    files: tuple[Path, ...]
    where: str
    kind: str = PUBLISHED
    as_published: bool = True
    notes: tuple[str, ...] = ()
    base: tuple[safetensors.SafetensorsFile, ...] = ()
    index: Path | None = None
    trained: tuple[TrainedTensors, ...] = ()
    replaced: Mapping[str, Tensor] = dataclasses.field(default_factory=dict)
    copies: Copies = dataclasses.field(default_factory=dict)

    @property
    def tensor_files(self) -> tuple[Path, ...]:
        """Those of the files that hold tensors."""
        return tuple(f for f in self.files if f.suffix != ".json" and f not in self.copies.values())

    @property
    def exportable(self) -> bool:
        """Whether the safetensors files can be written again from what is converted."""
        as_published = self.as_published and all(file.as_published for file in self.trained)
        return bool(self.base) and as_published and not self.component.ignored

    @property
    def pairs(self) -> dict[str, lora.Pair]:
        """LoRA pairs by layer, of files that have none in common."""
        return {layer: pair for file in self.trained for layer, pair in file.pairs.items()}


@dataclasses.dataclass(frozen=True)
class Origin:
    """Where a component comes from.

    Attributes:
      repository: that holds its files.
      tensors: how its tensors lie there.
      beside: other files that it needs.
      adapters: what was trained upon it; the model needs one of them.
      lora_flag: of the family's `Sources`, that names files to lay over it; None: the adapter's names them, after it.
      random: how to make random weights of it.
      file_flag: of the family's `Sources`, that names one file to take the tensors from instead.
      whole_flag: likewise, one that holds what an adapter adds, too.
      diffusers: how its tensors lie in the repository as diffusers publishes it.
    """

    repository: Repository
    tensors: TensorFiles
    beside: tuple[SmallFiles, ...] = ()
    adapters: tuple[AdapterFile, ...] = ()
    lora_flag: str | None = None
    random: RandomTensors = RandomTensors()
    file_flag: str | None = None
    whole_flag: str | None = None
    diffusers: TensorFiles | None = None

    @property
    def is_one_file(self) -> bool:
        """Whether its flag names a file, which is not on the hub."""
        return self.file_flag == self.repository.flag

    def written(self, root: Path) -> Path:
        """What its flag names of a checkpoint that is written into a folder."""
        home = root / self.repository.folder
        return home / self.tensors.file if self.is_one_file and isinstance(self.tensors, TorchFile) else home

    def open(self, component: Component, config: Any, sources: Any, asked: Asked = NOTHING) -> Published:
        """Find and map the files of a component.

        Args:
          config: its size.
          sources: the family's flags.
          asked: what the person says of trained files.

        Raises:
          UserError: a flag or file is missing, or a file is damaged or another one than it should be.
        """
        adapter = self._adapter(sources)
        whole = self._whole(sources, adapter, component, config)
        file, folders = (whole, [whole.parent]) if whole else self._places(component.name, sources)
        if not adapter and file is None:
            adapter = self._beside(folders[0], component.name)
        base = self._layout(folders[0]).read(folders[0]) if file is None else read_one(file)
        copies: dict[str, Path | bytes] = {}
        for small in self.beside:
            copies |= small.read(folders, config, base.tensors)
        found = understand(base, component, config)
        if not adapter and not any(map(self._is_new, found.tensors)):
            adapter = self._beside(folders[0], component.name)
        files = self._trained(sources, asked, () if whole else adapter)
        first, *more = base.paths
        made = tuple(place for place, copy in copies.items() if isinstance(copy, bytes))
        published = Published(
            component=component,
            config=config,
            tensors=component.adapt(found.tensors, config),
            files=(*base.paths, *found.paths, *(copy for copy in copies.values() if isinstance(copy, Path))),
            where=str(first.parent if more else first),
            kind=found.kind,
            as_published=found.as_published,
            notes=(*found.notes, *(f"{first}: {place} was made from what it holds" for place in made)),
            base=base.files,
            index=base.index,
            copies=copies,
        )
        return _with_trained(published, files) if files else published

    def _adapter(self, sources: Any) -> tuple[Path, ...]:
        """The adapter and what is laid over it, as its flag names them.

        Raises:
          UserError: two adapters are given.
        """
        given = {each.flag: paths for each in self.adapters if (paths := each.given(sources))}
        if len(given) > 1:
            first, second, *_ = given
            raise UserError(f"{given[first][0]}: takes the place of --{second}; give one of them", field=first)
        return next(iter(given.values()), ())

    def _whole(self, sources: Any, adapter: tuple[Path, ...], component: Component, config: Any) -> Path | None:
        """The file that holds base and adapter: that of its own flag, or the adapter's where the base model is in it
        too, as people merge and quantise them.

        The latter is told by its holding most of that: of a merged file that lacks a tensor, the conversion tells
        which.

        Raises:
          UserError: an adapter is given besides.
        """
        if self.whole_flag and (path := getattr(sources, self.whole_flag)):
            if adapter:
                raise UserError(f"{path}: holds the adapter too; leave out {adapter[0]}", field=self.whole_flag)
            return Path(path)
        if not adapter or self.lora_flag is None or not adapter[0].is_file():
            return None
        names = understand(read_one(adapter[0]), component, config).tensors.keys()
        base = {name for name in component.torch_shapes(config) if not self._is_new(name)}
        return adapter[0] if len(base & names) > len(base) / 2 else None

    def _is_new(self, name: str) -> bool:
        return any(adapter.is_new(name) for adapter in self.adapters)

    def _beside(self, folder: Path, component: str) -> tuple[Path, ...]:
        """The adapter where it was put beside the base model.

        Raises:
          UserError: it is not there.
        """
        if not self.adapters:
            return ()
        first, *others = self.adapters
        if not (folder / first.file).is_file():
            instead = "".join(f", or {other.title} as --{other.flag}," for other in others)
            raise UserError(
                f"missing; give {first.title} ({first.file}){instead} to convert {component}", field=first.flag
            )
        return (folder / first.file,)

    def _trained(self, sources: Any, asked: Asked, adapter: tuple[Path, ...]) -> tuple[TrainedFile, ...]:
        """What is laid over the base model: the adapter, then what else is given."""
        if self.lora_flag is None:
            return asked.files(adapter)
        return (*map(TrainedFile, adapter), *asked.files(getattr(sources, self.lora_flag)))

    def _places(self, component: str, sources: Any) -> tuple[Path | None, list[Path]]:
        """The file that a flag names, and the folders in which what a model needs besides may lie."""
        file = getattr(sources, self.file_flag) if self.file_flag else None
        if self.is_one_file:
            if not file:
                raise UserError(
                    f"missing; give the file of {self.repository.name} to convert {component}", field=self.file_flag
                )
            return Path(file), [Path(file).parent]
        or_else = f", or a file as --{self.file_flag}" if self.file_flag else ""
        if file and not getattr(sources, self.repository.flag):
            return Path(file), [Path(file).parent]
        folder = self.repository.locate(sources, component, or_else)
        return (Path(file), [folder, Path(file).parent]) if file else (None, [folder])

    def _layout(self, folder: Path) -> TensorFiles:
        if not (folder / "model_index.json").is_file():
            return self.tensors
        if self.diffusers is None:
            raise UserError(f"{folder}: is a diffusers repository; give the folder of {self.repository.name}")
        return self.diffusers

    def download(self, root: Path, fetch: Callable[[str, str, Path], Path]) -> dict[str, str]:
        """Fetch the files.

        Args:
          root: gets a folder for each repository.
          fetch: called with a repository, a file of it and a folder; gives the path of the file there.

        Returns:
          The flags that name what was fetched.
        """
        if self.is_one_file:
            return {}
        folder, repository = root / self.repository.folder, self.repository.name
        for part in (*self.beside, self.tensors):
            part.fetch(lambda file: fetch(repository, file, folder))
        flags = {self.repository.flag: str(folder)}
        for adapter in self.adapters[:1]:
            flags[adapter.flag] = str(fetch(adapter.repository, adapter.on_hub, root))
        return flags


def _with_trained(published: Published, files: tuple[TrainedFile, ...]) -> Published:
    component, base = published.component, published.tensors
    parameters = tree.abstract_parameters(component.abstract(published.config))
    opened = open_all(files, component, parameters, whole=False)  # what does not fit is in the conversion's report
    trained = tuple(_noticed(each, base) for each in opened)
    whole = {name: tensor for each in trained for name, tensor in each.whole.items()}
    changed = base.keys() & whole.keys() | {name for each in trained for name in each.added}
    return dataclasses.replace(
        published,
        tensors={**base, **whole},
        files=(*published.files, *(path for each in trained for path in each.files)),
        where=f"{published.where} and {', '.join(str(file.path) for file in files)}",
        trained=trained,
        replaced={name: base[name] for name in base.keys() & changed},
    )


def _noticed(trained: TrainedTensors, base: Mapping[str, Tensor]) -> TrainedTensors:
    """The same, told as what it is where it adds to the base model and changes nothing of it."""
    if trained.pairs or trained.added or trained.whole.keys() & base.keys():
        return trained
    told = f"{Path(trained.file.path).name}: {len(trained.whole)} tensors that the base model lacks"
    return dataclasses.replace(trained, notice=told)
