"""PyTorch files to a folder of converted weights, in little memory."""

import dataclasses
import math
import re
import shutil
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import talkverse_jax
from talkverse_jax.convert.export import headers_of
from talkverse_jax.convert.options import ConvertOptions
from talkverse_jax.core import tree
from talkverse_jax.core.config import to_dict
from talkverse_jax.core.errors import UserError
from talkverse_jax.core.paths import new_folder, write_json
from talkverse_jax.core.reporting import SILENT, Reporter
from talkverse_jax.pipeline import registry
from talkverse_jax.pipeline.family import Family
from talkverse_jax.weights import blocks, int8, lora, manifest, match, orbax_io, store
from talkverse_jax.weights.lazy import LazyTensor
from talkverse_jax.weights.published import Published

_SYSTEM_ERROR = re.compile(r"([^: ][^:]*) \[os_error_code=")  # in the ValueError that TensorStore raises


def convert(family: Family, options: ConvertOptions, sources: Any, configs: Any, reporter: Reporter = SILENT) -> None:
    """Convert some components into the folder `options.output`; what it holds already stays.

    All files are found and checked before the first is converted. A component whose files and settings are
    those of a conversion that finished is skipped.

    Args:
      sources: the flags that name the published files, the family's own `Sources`.
      configs: the sizes, the family's `configs_type`.

    Raises:
      UserError: a file is missing or damaged, names or shapes differ from the model's (with the report), the folder
        holds another family, or the disk is full. Nothing half-written stands in place of a complete component.
    """
    if options.output is None:
        raise UserError("missing; give the folder of converted weights", field="output")
    output, names = Path(options.output), options.chosen(family.components, family.given(sources))
    _check_family(output, family)
    configs = family.configs_for(configs, sources)
    for name in names:
        if getattr(configs, name) is None:
            raise UserError(f"{options.config}: has no table [{name}]; add one", field="config")
    published = [family.published(name, getattr(configs, name), sources, options.asked) for name in names]
    for one in published:
        _check_apart_from(output, names, one.files)
    plans = [_plan(one, options) for one in published]
    try:
        new_folder(output)
        for plan in plans:
            other = _differs(output, plan)
            if other == "":
                store.discard(output, plan.name)
                reporter.say(f"{plan.name}: already converted from these files")
                continue
            if other:
                reporter.say(
                    f"{plan.name}: was converted with {other}; it is converted again and takes the old one's place"
                )
            _run(output, family.name, plan, reporter)
    except (OSError, ValueError) as error:
        told = _SYSTEM_ERROR.search(str(error))
        reason = error.strerror if isinstance(error, OSError) else told and told[1]
        if not reason:
            raise
        raise UserError(
            f"{output}: cannot be written ({reason}); make room or give another --output, and run this again"
        ) from None


def _check_apart_from(output: Path, names: Sequence[str], files: Iterable[Path]) -> None:
    """Make sure that no file to convert lies where a component that is converted, or an older one, is removed.

    Raises:
      UserError: one does.
    """
    folders = {folder.resolve() for name in names for folder in store.folders_of(output, name)}
    for file in files:
        for folder in (*file.resolve().parents, *(file.parent.resolve() / file.name).parents):
            if folder in folders:
                raise UserError(
                    f"{output}: {file} lies in {folder}, which the converted component replaces; give another folder",
                    field="output",
                )


def _check_family(output: Path, family: Family) -> None:
    manifest.check_ours(output)
    try:
        there = registry.family_of(output)
    except UserError:  # no weights yet, or damaged: made anew
        return
    if there != family.name:
        raise UserError(
            f"{output}: holds weights of {there}, not of {family.name}; give another folder", field="output"
        )


@dataclasses.dataclass(frozen=True)
class _Conversion:
    """What to write for a component: the Orbax checkpoints of its folder, by name."""

    published: Published
    checkpoints: Mapping[str, Mapping[str, LazyTensor]]
    dtype: str
    lora: manifest.LoRA | None

    @property
    def name(self) -> str:
        return self.published.component.name

    @property
    def nbytes(self) -> int:
        return sum(leaf.nbytes for leaves in self.checkpoints.values() for leaf in leaves.values())


def _plan(published: Published, options: ConvertOptions) -> _Conversion:
    component, where = published.component, published.where
    parameters = tree.abstract_parameters(component.abstract(published.config))
    found = match.match(parameters, component.rules, published.tensors, component.unused(published.config))
    if not found.complete:
        raise UserError(f"{where}: the files do not fit the model {component.name}:\n{found.report()}")
    if published.trained and not options.lora_merge:
        _check_apart(published)
    dtype = _dtype(published, options)
    to = None if dtype == "keep" else np.dtype(component.dtype if dtype == int8.DTYPE else dtype)
    leaves = {}
    order = {name: place for place, name in enumerate(published.tensors)}  # as they lie in the files
    for pair in sorted(found.pairs, key=lambda pair: order[pair.name]):
        array = pair.rule.layout.from_torch(published.tensors[pair.name])
        layout, merge = pair.rule.layout, options.lora_merge
        addends = [addend for file in published.trained for addend in file.addends(pair.name, layout, with_pair=merge)]
        if dtype == int8.DTYPE and int8.is_for(component, pair):
            leaves |= int8.leaves(pair.path, _rounded(published, pair, addends))
            continue
        leaves[pair.path] = blocks.add(array, addends, to) if addends else blocks.cast(array, to)
    # what is stored beside the parameters stays as it came
    checkpoints = {store.PARAMETERS: leaves}
    if not options.lora_merge:
        checkpoints[store.LORA] = {name: blocks.cast(array) for name, array in lora.join(published.pairs).items()}
        checkpoints[store.REPLACED] = {name: blocks.cast(array) for name, array in published.replaced.items()}
    if dtype == int8.DTYPE:
        published = dataclasses.replace(published, notes=(*published.notes, _told(published, found)))
    return _Conversion(
        published=published,
        checkpoints={name: leaves for name, leaves in checkpoints.items() if leaves},
        dtype=dtype,
        lora=_note(published, options),
    )


def _rounded(published: Published, pair: match.Matched, addends: Sequence[lora.Addend]) -> int8.Rounded:
    """A kernel as int8: that of the file, or rounded.

    Raises:
      UserError: something is added to that of a file.
    """
    tensor, layout = published.tensors[pair.name], pair.rule.layout
    own, array = int8.stored(tensor, layout), layout.from_torch(tensor)
    if own and addends:
        raise UserError(
            f"int8: {published.where}: {pair.name} is int8, to which nothing can be added; give --dtype bfloat16, or "
            "the quantised file of the merged model without --lora_ckpt",
            field="dtype",
        )
    return own or int8.rounded(blocks.add(array, addends, np.dtype(np.float32)) if addends else array)


def _told(published: Published, found: match.Match) -> str:
    """Where int8 comes from, for people."""
    kernels = [pair for pair in found.pairs if int8.is_for(published.component, pair)]
    own = sum(int8.stored(published.tensors[pair.name], pair.rule.layout) is not None for pair in kernels)
    return f"{len(kernels)} kernels are int8: {own} as in the file, {len(kernels) - own} rounded to the nearest"


def _dtype(published: Published, options: ConvertOptions) -> str:
    """Of a component's parameters.

    Raises:
      UserError: pairs should lie beside int8.
    """
    component = published.component
    if options.dtype == "auto" or (options.dtype == int8.DTYPE and not component.int8):
        return component.dtype
    if options.dtype == int8.DTYPE and published.pairs and not options.lora_merge:
        raise UserError("int8: nothing can be added to it later; leave out --lora_merge false", field="dtype")
    return options.dtype


def _check_apart(published: Published) -> None:
    """Make sure that pairs can lie beside the weights.

    Raises:
      UserError: they are of several files, or count otherwise than their file says.
    """
    if len(published.trained) > 1 or any(each.file.strength != 1 for each in published.trained):
        raise UserError(
            "false: keeps the pairs of one file as they came; give one --lora_ckpt without --lora_strength, and lay "
            "the others over when you sample",
            field="lora_merge",
        )


def _note(published: Published, options: ConvertOptions) -> manifest.LoRA | None:
    """What the manifest says of trained files; nothing of those that only have what the base model lacks."""
    if not (published.replaced or any(file.pairs or file.added for file in published.trained)):
        return None
    pairs = [pair for file in published.trained for pair in file.pairs.values()]
    rank, alpha = lora.common(pairs) or (None, None)
    strengths = options.lora_strength if set(options.lora_strength) - {1} else ()
    return manifest.LoRA(options.lora_merge, rank, alpha, len(pairs), strengths)


def _differs(output: Path, plan: _Conversion) -> str | None:
    """How the component that is there differs, "" where it does not; None where there is none, or a damaged one."""
    try:
        entry = manifest.read(output)[plan.name]
        config = store.load_config(output, plan.published.component)
    except (KeyError, UserError):
        return None
    if entry.dtype != plan.dtype:
        return f"--dtype {entry.dtype}"
    if entry.lora != plan.lora:
        return "other LoRA settings"
    if entry.version != talkverse_jax.__version__:
        return f"version {entry.version} of this program"
    if config != plan.published.config:
        return "other sizes"
    return "" if manifest.unchanged(entry.sources, plan.published.files) else "other files"


def _run(output: Path, family: str, plan: _Conversion, reporter: Reporter) -> None:
    free = shutil.disk_usage(output).free
    if plan.nbytes > free:
        raise UserError(
            f"{output}: {plan.name} needs {size(plan.nbytes)}, {size(free)} are free; make room, or give another",
            field="output",
        )
    for note in plan.published.notes:
        reporter.say(f"{plan.name}: {note}")
    for trained in plan.published.trained:
        reporter.say(trained.notice)
    begin = time.perf_counter()
    hashing = manifest.Hashing(plan.published.files)
    hashing.start()
    with store.staging(output, plan.name) as folder:
        with reporter.bar(plan.nbytes, plan.name, "B") as bar:
            for name, leaves in plan.checkpoints.items():
                orbax_io.write(folder / name, leaves, bar.update)
        _write_small_files(folder, plan.published)
        written = time.perf_counter()
        entry = manifest.Entry(
            dtype=plan.dtype,
            bytes=plan.nbytes,
            sources=hashing.sources(),
            lora=plan.lora,
            version=talkverse_jax.__version__,
            kind=plan.published.kind,
        )
        store.commit(output, plan.name, entry, family)
    reporter.say(_summary(plan, written - begin, time.perf_counter() - written))


def _write_small_files(folder: Path, published: Published) -> None:
    write_json(folder / manifest.CONFIG, to_dict(published.config))
    for place, source in published.copies.items():
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        if isinstance(source, bytes):
            (folder / place).write_bytes(source)
        else:
            shutil.copyfile(source, folder / place)
    if published.exportable:
        write_json(folder / store.HEADERS, headers_of(published))


def size(nbytes: int) -> str:
    """A number of bytes for people."""
    power = min(3, max(0, int(math.log10(max(1, nbytes))) // 3))
    return f"{nbytes / 1000**power:.3g} {('B', 'kB', 'MB', 'GB')[power]}"


def _summary(plan: _Conversion, writing: float, waiting: float) -> str:
    source = sum(path.stat().st_size for path in plan.published.files)
    pairs = ""
    if plan.lora:
        pairs = f", {plan.lora.pairs} LoRA pairs {'merged' if plan.lora.merged else 'beside'}"
    hashing = f" and {waiting:.0f} s more for the files' SHA-256" if waiting > 1 else ""
    return (
        f"{plan.name}: {len(plan.checkpoints[store.PARAMETERS])} tensors, {size(source)} -> "
        f"{size(plan.nbytes)} ({plan.dtype}{pairs}) in {writing:.1f} s{hashing}"
    )
