"""A converted component back to the safetensors files it came from, bit for bit."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from talkverse_jax.convert.options import ConvertOptions
from talkverse_jax.core.errors import UserError
from talkverse_jax.core.paths import new_folder, replacing
from talkverse_jax.core.reporting import SILENT, Reporter
from talkverse_jax.pipeline import registry
from talkverse_jax.pipeline.family import Family
from talkverse_jax.weights import manifest, orbax_io, store
from talkverse_jax.weights import safetensors_io as safetensors
from talkverse_jax.weights.published import Published
from talkverse_jax.weights.published_files import Safetensors
from talkverse_jax.weights.rule import Rule, find_rule
from talkverse_jax.weights.trained import plain_name

_GROUP_BYTES = 256 * 1024**2  # read at once


def headers_of(published: Published) -> dict[str, Any]:
    """What `store.HEADERS` holds: the files' headers as they stand, and the index of the base model's shards."""
    return {
        "base": {file.path.name: file.header for file in published.base},
        "trained": {each.opened.path.name: each.opened.header for each in published.trained},
        "index": published.index.read_text(encoding="utf-8") if published.index else None,
    }


def export(family: Family, options: ConvertOptions, reporter: Reporter = SILENT) -> None:
    """Write the safetensors files that components in `options.output` came from into the folder `options.export`.

    Raises:
      UserError: nothing can be exported, or was not converted with `--lora_merge false --dtype keep`, or a file would
        not come out as it came in (its SHA-256 is compared), or the folder cannot be made.
      OSError: a file cannot be written. Of one that failed, nothing is left.
    """
    if options.output is None or options.export is None:
        raise UserError("missing; give the folder of converted weights", field="output")
    weights, target = Path(options.output), Path(options.export)
    if (there := registry.family_of(weights)) != family.name:
        raise UserError(f"{weights}: holds weights of {there}, not of {family.name}", field="output")
    chosen = options.chosen(family.components)
    folders = {name: weights / name for name in chosen if (weights / name / store.HEADERS).is_file()}
    if not folders:
        raise UserError(
            f"{weights}: has nothing to export among {', '.join(chosen)}; convert a component that is published as "
            "safetensors, with --lora_merge false --dtype keep"
        )
    for name in folders:
        _export(family, weights, name, target, reporter)


def _export(family: Family, weights: Path, name: str, target: Path, reporter: Reporter) -> None:
    folder, entry, origin = store.folder_of(weights, name), manifest.read(weights)[name], family.sources[name]
    if entry.dtype != "keep" or (entry.lora is not None and entry.lora.merged):
        raise UserError(
            f"{folder}: only what was converted with --lora_merge false --dtype keep can be exported; convert it so"
        )
    new_folder(target)
    headers = json.loads((folder / store.HEADERS).read_text(encoding="utf-8"))
    tensors = _ConvertedTensors(weights, name, family.components[name].rules)
    sha256 = {source.file: source.sha256 for source in entry.sources}
    home = target / origin.repository.folder
    for part, place in (("base", home), ("trained", target)):
        new_folder(place)
        for file, header in headers[part].items():
            with replacing(place / file) as partial, reporter.bar(_data_bytes(header), file, "B") as bar:
                safetensors.write_file(partial, header, tensors.tensors(part, header, bar.update))
                if manifest.sha256(partial) != sha256[file]:
                    raise UserError(
                        f"{place / file}: would differ from what was converted; delete {folder} and "
                        + manifest.conversion(weights, name)
                    )
            reporter.say(f"{place / file}: as it came in (SHA-256 {sha256[file]})")
    if headers["index"] is not None and isinstance(origin.tensors, Safetensors):
        with replacing(home / origin.tensors.index) as partial:
            partial.write_text(headers["index"], encoding="utf-8")


def _data_bytes(header: str) -> int:
    return max((entry.end for entry in safetensors.parse_header(header).values()), default=0)


class _ConvertedTensors:
    """The tensors of a converted component under their PyTorch names."""

    def __init__(self, weights: Path, component: str, rules: tuple[Rule, ...]):
        self._place = (weights, component)
        with store.reading(*self._place) as folder:
            self._stored = {
                name: orbax_io.shapes(folder / name)
                for name in (store.PARAMETERS, store.LORA, store.REPLACED)
                if (folder / name).is_dir()
            }
        self._parameters = {}
        for path in self._stored[store.PARAMETERS]:
            rule, names = find_rule(rules, path)
            self._parameters[names[0]] = (path, rule.layout)

    def tensors(self, part: str, header: str, progress: Callable[[int], Any]) -> Iterator[np.ndarray]:
        """The tensors of a file in the order of its data; some are read at once.

        Args:
          part: "base" or "trained".
          progress: called with the number of bytes of each.
        """
        beside = store.REPLACED if part == "base" else store.LORA
        names = [plain_name(name) for name in safetensors.parse_header(header)]
        places = {
            name: (beside, name)
            if name in self._stored.get(beside, {})
            else (store.PARAMETERS, self._parameters[name][0])
            for name in names
        }
        leaves = {name: self._stored[checkpoint][path] for name, (checkpoint, path) in places.items()}
        for group in orbax_io.groups(leaves, _GROUP_BYTES):
            found = self._read({places[name] for name in group})
            for name in group:
                array = found.pop(places[name])
                if places[name][0] == store.PARAMETERS:
                    array = self._parameters[name][1].to_torch(array)
                yield array
                progress(array.nbytes)

    def _read(self, places: set[tuple[str, str]]) -> dict[tuple[str, str], np.ndarray]:
        """Arrays by checkpoint and path."""
        found = {}
        for name, stored in self._stored.items():
            wanted = {path: stored[path] for checkpoint, path in places if checkpoint == name}
            if wanted:
                with store.reading(*self._place) as folder:
                    arrays = orbax_io.read(folder / name, wanted)
                found |= {(name, path): array for path, array in arrays.items()}
        return found
