"""A converted DiT back to the safetensors files it came from, bit for bit."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from talkverse_jax.convert.published import DIT_STEM, Published
from talkverse_jax.core.errors import UserError
from talkverse_jax.core.paths import new_folder, replacing
from talkverse_jax.families.talkverse.components import COMPONENTS
from talkverse_jax.weights import lora, manifest, orbax_io, store
from talkverse_jax.weights import safetensors_io as safetensors
from talkverse_jax.weights.rule import find_rule

_BASE_FOLDER = "Wan2.2-TI2V-5B"
_GROUP_BYTES = 256 * 1024**2  # read at once


def headers_of(published: Published) -> dict[str, Any]:
    """What `store.HEADERS` holds: the files' headers as they stand, and the index of the base model's shards."""
    index = safetensors.index_file(published.base[0].path.parent, DIT_STEM)
    return {
        "base": {file.path.name: file.header for file in published.base},
        "trained": {file.path.name: file.header for file in published.trained},
        "index": index.read_text(encoding="utf-8") if index.is_file() else None,
    }


def export(weights_dir: str | Path, target: str | Path) -> None:
    """Write the base model and the TalkVerse file of a converted DiT into the folder `target`.

    Raises:
      UserError: the DiT was not converted with `--lora_merge false --dtype keep`, or a file would not come
        out as it came in (its SHA-256 is compared), or the folder cannot be made.
      OSError: a file cannot be written. Of one that failed, nothing is left.
    """
    folder, target = store.folder_of(weights_dir, "dit"), Path(target)
    entry = manifest.read(weights_dir)["dit"]
    if entry.dtype != "keep" or entry.lora is None or entry.lora.merged:
        raise UserError(
            f"{folder}: only what was converted with --lora_merge false --dtype keep can be exported; convert it so"
        )
    new_folder(target)
    headers = json.loads((folder / store.HEADERS).read_text(encoding="utf-8"))
    source = _Source(folder)
    sha256 = {source.file: source.sha256 for source in entry.sources}
    for part, place in (("base", target / _BASE_FOLDER), ("trained", target)):
        new_folder(place)
        for name, header in headers[part].items():
            progress = tqdm(total=_data_bytes(header), desc=name, unit="B", unit_scale=True)
            with replacing(place / name) as partial, progress:
                safetensors.write_file(partial, header, source.tensors(part, header, progress.update))
                if manifest.sha256(partial) != sha256[name]:
                    raise UserError(
                        f"{place / name}: would differ from what was converted; delete {folder} and "
                        + manifest.conversion(weights_dir, "dit")
                    )
            print(f"{place / name}: as it came in (SHA-256 {sha256[name]})")
    if headers["index"] is not None:
        with replacing(safetensors.index_file(target / _BASE_FOLDER, DIT_STEM)) as partial:
            partial.write_text(headers["index"], encoding="utf-8")


def _data_bytes(header: str) -> int:
    return max((entry.end for entry in safetensors.parse_header(header).values()), default=0)


class _Source:
    """The tensors of a converted DiT under their PyTorch names."""

    def __init__(self, folder: Path):
        self._folder = folder
        self._stored = {
            name: orbax_io.shapes(folder / name)
            for name in (store.PARAMETERS, store.LORA, store.REPLACED)
            if (folder / name).is_dir()
        }
        self._parameters = {}
        for path in self._stored[store.PARAMETERS]:
            rule, names = find_rule(COMPONENTS["dit"].rules, path)
            self._parameters[names[0]] = (path, rule.layout)

    def tensors(self, part: str, header: str, progress: Callable[[int], Any]) -> Iterator[np.ndarray]:
        """The tensors of a file in the order of its data; some are read at once.

        Args:
          part: "base" or "trained".
          progress: called with the number of bytes of each.
        """
        beside = store.REPLACED if part == "base" else store.LORA
        names = [lora.plain_name(name) for name in safetensors.parse_header(header)]
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
                arrays = orbax_io.read(self._folder / name, wanted)
                found |= {(name, path): array for path, array in arrays.items()}
        return found
