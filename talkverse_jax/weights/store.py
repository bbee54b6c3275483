"""A folder of converted weights: `manifest.json`, and for each component

    NAME/config.json   its sizes
    NAME/parameters/   an Orbax checkpoint of its parameters, by our paths
    NAME/lora/         LoRA pairs that were not added to them, by PyTorch name (--lora_merge false)
    NAME/replaced/     tensors of the base model that the trained ones replace, by PyTorch name (likewise)
    NAME/published.json  headers of the safetensors files that it came from, where they can be written again
    NAME/files.json    all its files and their sizes
    NAME/checksums     of all these (not of older versions)

and files it needs besides (tokenizer, feature extractor). What is read is compared with checksums: of arrays chunk by
chunk, of small files and those without arrays when the folder is asked for; `look_over` looks at every byte.
`NAME.partial` is a conversion under way, or one that was interrupted.
"""

import json
import shutil
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import Sharding, SingleDeviceSharding

from talkverse_jax.core import checksums, tree
from talkverse_jax.core.config import from_dict
from talkverse_jax.core.errors import UserError
from talkverse_jax.core.paths import existing_file, sync, write_json
from talkverse_jax.sharding.layout import Layout, on_host
from talkverse_jax.weights import int8, lora, manifest, orbax_io
from talkverse_jax.weights import safetensors_io as safetensors
from talkverse_jax.weights.asked import TrainedFile
from talkverse_jax.weights.component import Component
from talkverse_jax.weights.rule import find_rule
from talkverse_jax.weights.trained import TrainedTensors, lay_over, open_all

PARAMETERS, LORA, REPLACED = "parameters", "lora", "replaced"
HEADERS = "published.json"
_FILES, _CHECKSUMS = "files.json", "checksums"
_SMALL = 1024**2  # bytes; to sum so many costs nothing
ShardingOf = Callable[[str, tuple[int, ...]], Sharding]


def read_manifest(weights_dir: str | Path) -> dict[str, Any]:
    """The complete components and what they were made from, as plain values.

    Raises:
      UserError: there are no converted weights here.
    """
    return {name: manifest.plain(entry) for name, entry in manifest.read(weights_dir).items()}


def folder_of(weights_dir: str | Path, name: str) -> Path:
    """Where a complete component lies.

    Raises:
      UserError: there are no converted weights here, or the component is missing, half-converted, or has lost
        a file or a part of one, or one of its small files is damaged.
    """
    complete = manifest.read(weights_dir)
    folder = Path(weights_dir) / name
    again = manifest.conversion(weights_dir, name)
    if name not in complete:
        state = "half-converted" if _partial(weights_dir, name).exists() else "not converted"
        raise UserError(f"{folder}: {state}; {again}")
    try:
        files = json.loads((folder / _FILES).read_text(encoding="utf-8"))
        for file, size in files.items():
            if (folder / file).stat().st_size != size:
                raise UserError(f"{folder / file}: not of the size it was written with; {again}")
    except FileNotFoundError as error:
        raise UserError(f"{error.filename}: no such file, so {name} is incomplete; {again}") from None
    except (ValueError, AttributeError):
        raise UserError(f"{folder / _FILES}: damaged; {again}") from None
    _check(folder, again, lambda file: files.get(file, 0) < _SMALL or not _holds_chunks(file))
    return folder


@contextmanager
def reading(weights_dir: str | Path, name: str) -> Iterator[Path]:
    """The folder of a complete component, for a block that reads its arrays.

    Raises:
      UserError: they are damaged, or see `folder_of`.
    """
    folder = folder_of(weights_dir, name)
    try:
        yield folder
    except (OSError, ValueError, LookupError) as error:  # by these Orbax and TensorStore tell what is wrong
        raise UserError(
            f"{folder}: damaged ({_first_line(error)}); delete it and {manifest.conversion(weights_dir, name)}"
        ) from error


def look_over(weights_dir: str | Path, verify: bool) -> tuple[str, ...]:
    """What a person should know of weights before they are used.

    Args:
      verify: read all their files and compare the checksums; each process a part of them.

    Raises:
      UserError: a file is damaged, or see `folder_of`.
    """
    unsummed = []
    for name in manifest.read(weights_dir):
        folder = folder_of(weights_dir, name)
        if not (folder / _CHECKSUMS).exists():
            unsummed.append(name)
        elif verify:
            _check(folder, f"delete {folder} and {manifest.conversion(weights_dir, name)}", _is_ours)
    if not unsummed:
        return ()
    return (
        f"{weights_dir}: an older version converted {', '.join(unsummed)}, without checksums; damage in their numbers "
        "is not seen until they are converted again",
    )


def _check(folder: Path, remedy: str, wanted: Callable[[str], bool]) -> None:
    if not (folder / _CHECKSUMS).exists():
        return
    try:
        checksums.check(folder / _CHECKSUMS, wanted)
    except (OSError, ValueError) as error:
        raise UserError(f"{_first_line(error)}, so {folder.name} is damaged; {remedy}") from None


def _is_ours(file: str) -> bool:
    return zlib.crc32(file.encode()) % jax.process_count() == jax.process_index()


def _holds_chunks(file: str) -> bool:
    """Whether a file is one of OCDBT's: what is read of these is checked as it is read."""
    return Path(file).parent.name == "d"


def load_config(weights_dir: str | Path, component: Component) -> Any:
    """The sizes of a converted component."""
    path = folder_of(weights_dir, component.name) / manifest.CONFIG
    return from_dict(component.config_type, manifest.sizes(weights_dir, component.name), str(path))


def load_module(
    weights_dir: str | Path,
    component: Component,
    *,
    dtype: Any = None,
    compute_dtype: Any = None,
    layout: Layout = Layout(),
    with_lora: bool = True,
    trained: Iterable[TrainedFile] = (),
    **options: Any,
) -> nnx.Module:
    """A component with its weights.

    Args:
      dtype: of the parameters; by default each as it is stored.
      compute_dtype: of the matrix products; by default `dtype`, or what the weights were converted to
        (float32 where they were kept as they came).
      layout: how the parameters are split; each device reads its own part of the files. By default all are on
        the first device.
      with_lora: add pairs that are stored beside the weights (--lora_merge false) to them.
      trained: files to lay over the weights.
      options: what the model alone takes, such as the transformer's `kernel`.

    Raises:
      UserError: the component is missing, half-converted, damaged, or not of the size its config says; or a
        trained file does not fit it.
    """
    config, entry = load_config(weights_dir, component), manifest.read(weights_dir)[component.name]
    if compute_dtype is None:
        compute_dtype = dtype or {"keep": "float32", int8.DTYPE: component.dtype}.get(entry.dtype, entry.dtype)
    module = component.abstract(config, jnp.dtype(dtype or jnp.float32), jnp.dtype(compute_dtype), layout, **options)
    opened = open_all(trained, component, tree.abstract_parameters(module))
    with_lora = with_lora and not any(file.has_all_pairs for file in opened)
    parameters = load_parameters(
        weights_dir, component, module, dtype_of=lambda _: dtype, layout=layout, with_lora=with_lora
    )
    if opened:  # never of int8, whose scales no file has names for
        lay_over(parameters, opened, component.rules)
    return tree.with_parameters(module, parameters)


def load_parameters(
    weights_dir: str | Path,
    component: Component,
    module: nnx.Module,
    *,
    dtype_of: Callable[[str], Any],
    layout: Layout = Layout(),
    with_lora: bool = True,
) -> tree.Flat:
    """The parameters of an (abstract) component by path; see `load_module`.

    Args:
      dtype_of: the dtype of each by its path; None: as it is stored.
    """
    if layout.mesh:
        sharding_of = layout.parameter_sharding(component.axes)
    else:
        first = SingleDeviceSharding(_first_device())
        sharding_of = lambda *_: first  # noqa: E731
    sharding_of = on_host(sharding_of, tree.paths_on_host(module))
    with reading(weights_dir, component.name) as folder:
        pairs = _pairs_by_path(weights_dir, folder, component) if with_lora else {}
        return _read_parameters(folder / PARAMETERS, module, component.dtype, dtype_of, sharding_of, pairs)


def is_int8(weights_dir: str | Path, component: Component) -> bool:
    """Whether kernels are stored as int8, so that a model whose layers have scales keeps them so; in another they are
    multiplied out as they are read."""
    return manifest.read(weights_dir)[component.name].dtype == int8.DTYPE


def stored_pairs(weights_dir: str | Path, component: Component) -> dict[str, lora.Pair]:
    """LoRA pairs that were not added to the weights (--lora_merge false), by our path of their kernel."""
    with reading(weights_dir, component.name) as folder:
        return _pairs_by_path(weights_dir, folder, component)


def pairs_apart(weights_dir: str | Path, component: Component) -> bool:
    """Whether LoRA pairs lie beside the weights."""
    told = manifest.read(weights_dir)[component.name].lora
    return told is not None and not told.merged and told.pairs > 0


def base_tensors(weights_dir: str | Path, component: Component) -> tree.Flat:
    """The base model's own tensors where trained ones stand in their place, by our path; in host memory.

    Raises:
      UserError: the component was converted with its LoRA pairs added, so the base model's kernels are gone.
    """
    folder, entry = folder_of(weights_dir, component.name), manifest.read(weights_dir)[component.name]
    if entry.lora is not None and entry.lora.merged:
        raise UserError(
            f"{folder}: its LoRA pairs were added to the base model's kernels, which are gone; convert it with "
            "--lora_merge false"
        )
    if not (folder / REPLACED).is_dir():
        return {}
    with reading(weights_dir, component.name):
        stored = orbax_io.read(folder / REPLACED, orbax_io.shapes(folder / REPLACED))
        paths = orbax_io.shapes(folder / PARAMETERS)
    found = {}
    for path in paths:
        if int8.is_scale(path, paths):
            continue
        rule, names = find_rule(component.rules, path)
        for name in names:
            if name in stored:
                found[path] = rule.layout.from_torch(stored[name])
    return found


def check_trained(
    weights_dir: str | Path, component: Component, files: Sequence[TrainedFile]
) -> tuple[TrainedTensors, ...]:
    """Make sure that trained files can be laid over a component; of all only headers are read.

    Raises:
      UserError: the component was converted from one of them, so it would count twice; or one is a part of the base
        model, which would undo the training; or one does not fit, see `trained.open_all`.
    """
    folder, entry = folder_of(weights_dir, component.name), manifest.read(weights_dir)[component.name]
    if files and entry.dtype == int8.DTYPE:
        raise UserError(
            f"{files[0].path}: cannot be laid over {weights_dir}, which is int8; convert the weights again with this "
            "file as --lora_ckpt, or with --dtype bfloat16"
        )
    for path in (Path(file.path) for file in files):
        size = existing_file(path, "a .safetensors file").stat().st_size
        hashes = {source.sha256 for source in entry.sources if source.bytes == size}
        if hashes and manifest.sha256(path) in hashes:
            raise UserError(f"{path}: {weights_dir} was converted from it, so it is in there; leave it out")
    abstract = component.abstract(load_config(weights_dir, component))
    opened, base = open_all(files, component, tree.abstract_parameters(abstract)), _base_names(folder)
    for each in opened:
        path = each.file.path
        if not (each.pairs or each.added) and each.whole.keys() <= base:
            raise UserError(
                f"{path}: has no LoRA pairs and no tensor that the base model lacks, so it is a part of that; give "
                "a file trained from these weights"
            )
        if each.has_all_pairs and entry.lora is not None and entry.lora.merged:
            raise UserError(
                f"{path}: holds all pairs of the model, and {weights_dir} has its own added already; give weights "
                "that were converted with --lora_merge false, or convert the base model with this file"
            )
        if each.has_all_pairs and entry.lora is not None and each.file.strength != 1:
            raise UserError(
                f"{each.file.strength:g}: {path} holds all pairs of the model, also those of the weights; give 1",
                field="lora_strength",
            )
    return opened


def _base_names(folder: Path) -> set[str]:
    """The names of the base model's tensors in the files that a component came from; none where nobody noted them."""
    path = folder / HEADERS
    headers = json.loads(path.read_text(encoding="utf-8"))["base"].values() if path.is_file() else ()
    return {name for header in headers for name in safetensors.parse_header(header)}


def _read_parameters(
    path: Path,
    module: nnx.Module,
    float_dtype: str,
    dtype_of: Callable[[str], Any],
    sharding_of: ShardingOf,
    pairs: Mapping[str, lora.Pair],
) -> tree.Flat:
    stored, wanted = orbax_io.shapes(path), {}
    leaves = tree.abstract_parameters(module)
    for name, leaf in leaves.items():
        have = stored[name]
        if have.shape != leaf.shape:
            raise ValueError(f"{name} is {list(have.shape)}, {list(leaf.shape)} by its config")
        # a kernel with a pair is rounded once, after the sum; int8 and its scales stay as they are
        as_stored = name in pairs or int8.is_kernel(have) or int8.is_scale(name, stored)
        read_dtype = have.dtype if as_stored else dtype_of(name) or have.dtype
        wanted[name] = jax.ShapeDtypeStruct(leaf.shape, read_dtype, sharding=sharding_of(name, leaf.shape))
    scales = {
        name: stored[int8.scale_of(name)]
        for name in leaves
        if int8.is_kernel(stored[name]) and int8.scale_of(name) not in leaves  # the model computes with floats
    }
    factors = orbax_io.read(path, {int8.scale_of(name): scale for name, scale in scales.items()}) if scales else {}

    def finish(name: str, kernel: jax.Array) -> jax.Array:
        if name in scales:
            return int8.multiplied(kernel, factors[int8.scale_of(name)], jnp.dtype(dtype_of(name) or float_dtype))
        if name not in pairs:
            return kernel
        return lora.add(kernel, [pairs[name]], dtype_of(name) or kernel.dtype)

    return orbax_io.read(path, wanted, finish)


def _pairs_by_path(weights_dir: str | Path, folder: Path, component: Component) -> dict[str, lora.Pair]:
    """Pairs stored beside the weights, by our path of their kernel."""
    entry = manifest.read(weights_dir)[component.name]
    if entry.lora is None or entry.lora.merged or not entry.lora.pairs:
        return {}
    tensors = orbax_io.read(folder / LORA, orbax_io.shapes(folder / LORA))
    pairs, paths = lora.split(tensors, entry.lora.alpha), {}
    for name in orbax_io.shapes(folder / PARAMETERS):
        layer = find_rule(component.rules, name)[1][0].removesuffix(".weight")
        if layer in pairs:
            paths[name] = pairs[layer]
    return paths


def _first_device() -> jax.Device:  # pyright: ignore[reportInvalidTypeForm]  # JAX's stubs make it a variable
    return next(iter(jnp.zeros(()).devices()))  # `jax.default_device` is heeded


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


@contextmanager
def staging(weights_dir: str | Path, name: str) -> Iterator[Path]:
    """A new folder to write a component into; when the block fails, it is removed.

    Raises:
      UserError: a folder of the component's name is there and holds something else.
    """
    taken = Path(weights_dir) / name
    if taken.exists() and not (taken / _FILES).is_file() and name not in _complete(weights_dir):
        raise UserError(f"{taken}: is there and is no converted component; move it, or give another --output")
    discard(weights_dir, name)
    folder = _partial(weights_dir, name)
    folder.mkdir(parents=True)
    try:
        yield folder
    except BaseException:
        discard(weights_dir, name)
        raise


def folders_of(weights_dir: str | Path, name: str) -> tuple[Path, Path, Path]:
    """The folders of a component, and of one that is being made or replaced; what is in them goes."""
    return Path(weights_dir) / name, _partial(weights_dir, name), _old(weights_dir, name)


def discard(weights_dir: str | Path, name: str) -> None:
    """Remove what an interrupted conversion left of a component."""
    for folder in (_partial(weights_dir, name), _old(weights_dir, name)):
        shutil.rmtree(folder, ignore_errors=True)


def commit(weights_dir: str | Path, name: str, entry: manifest.Entry, family: str) -> None:
    """Put the staged component in place of an older one.

    Interrupted at any point, it leaves the old one, the new one, or none in the manifest; never a mixture.

    Args:
      family: that all components in the folder are of.
    """
    folder, staged = Path(weights_dir) / name, _partial(weights_dir, name)
    files = {str(path.relative_to(staged)): path.stat().st_size for path in staged.rglob("*") if path.is_file()}
    write_json(staged / _FILES, files)
    checksums.record(staged / _CHECKSUMS, filter(Path.is_file, staged.rglob("*")))
    complete, settings = _complete(weights_dir)
    if complete.pop(name, None):
        manifest.write(weights_dir, complete, family, settings)
    if folder.exists():
        folder.rename(_old(weights_dir, name))
    staged.rename(folder)
    sync(Path(weights_dir))
    manifest.write(weights_dir, complete | {name: entry}, family, settings)
    discard(weights_dir, name)


def _complete(weights_dir: str | Path) -> tuple[manifest.Manifest, dict[str, Any]]:
    """The components that are there, and the settings that came with them."""
    try:
        return manifest.read(weights_dir), manifest.settings(weights_dir)
    except UserError:  # none yet, or damaged
        return {}, {}


def _old(weights_dir: str | Path, name: str) -> Path:
    return Path(weights_dir) / f"{name}.old"


def _partial(weights_dir: str | Path, name: str) -> Path:
    return Path(weights_dir) / f"{name}.partial"
