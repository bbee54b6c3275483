"""What a folder of converted weights holds, of which family, and what it was made from: `manifest.json`.

A component is in the manifest when it is complete, and only then.
"""

import dataclasses
import hashlib
import json
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from talkverse_jax.core.checksums import stamped, unstamped
from talkverse_jax.core.config import from_dict, to_dict
from talkverse_jax.core.errors import UserError
from talkverse_jax.core.paths import write_json

FILE, CONFIG = "manifest.json", "config.json"
PUBLISHED = "published"  # the kind of files that are as they were published
_FORMAT = 1
_KEYS = {"components", "format", "family", "settings"}


@dataclasses.dataclass(frozen=True)
class Source:
    """A file that weights were converted from."""

    file: str
    bytes: int
    modified_ns: int
    sha256: str


@dataclasses.dataclass(frozen=True)
class LoRA:
    """Pairs that came with the weights: added to them, or stored beside them.

    Attributes:
      rank, alpha: of each; None where they differ.
      strengths: of the trained files, in the order of the sources; none where all are 1.
    """

    merged: bool
    rank: int | None
    alpha: float | None
    pairs: int
    strengths: tuple[float, ...] = ()


@dataclasses.dataclass(frozen=True)
class Entry:
    """A component's line in the manifest.

    Attributes:
      dtype: "bfloat16", "float32", "keep": as it came in, or "int8": of some kernels (see `int8.py`).
      bytes: of its parameters.
      sources: the files it was converted from.
      lora: None where no pairs came with it.
      version: of this program.
      kind: what those files were: "published", or how they differed from that.
    """

    dtype: str
    bytes: int
    sources: tuple[Source, ...]
    lora: LoRA | None
    version: str
    kind: str = PUBLISHED


Manifest = dict[str, Entry]


def read(folder: str | Path) -> Manifest:
    """The components that are complete.

    Raises:
      UserError: the folder or its manifest is missing, or damaged, or of a later version.
    """
    path = Path(folder) / FILE
    values = _values(folder)
    version, components = values["format"], values["components"]
    if version != _FORMAT:
        raise UserError(f"{path}: of format {version}, this program reads {_FORMAT}; {conversion(folder)}")
    if not isinstance(components, dict):
        raise UserError(f"{path}: damaged; {conversion(folder)}")
    return {name: from_dict(Entry, entry, f"{path}: {name}") for name, entry in components.items()}


def plain(entry: Entry) -> dict[str, Any]:
    """An entry as plain values, by which weights are known again: what older programs did not know is left out where it
    says nothing."""
    values = to_dict(entry)
    if values["kind"] == PUBLISHED:
        del values["kind"]
    if values["lora"] and not values["lora"]["strengths"]:
        del values["lora"]["strengths"]
    return values


def family(folder: str | Path) -> str | None:
    """The name of the family that the weights are of; None where an older program wrote the manifest.

    Raises:
      UserError: the folder or its manifest is missing, or damaged.
    """
    return _values(folder).get("family")


def identity(folder: str | Path) -> dict[str, Any]:
    """What decides the weights' numbers, by component: the contents of the files they came from, and how they were
    converted. Names and times of files do not count.

    Raises:
      UserError: the folder or its manifest is missing, or damaged.
    """
    return comparable({name: plain(entry) for name, entry in read(folder).items()})


def comparable(components: Any) -> Any:
    """The same of a manifest's components as plain values, which older records hold whole."""
    if not isinstance(components, dict):
        return components
    found = {}
    for name, entry in components.items():
        files = entry["sources"]
        digests = sorted(file if isinstance(file, str) else file["sha256"] for file in files)
        found[name] = {"dtype": entry["dtype"], "lora": entry["lora"], "sources": digests}
    return found


def settings(folder: str | Path) -> dict[str, Any]:
    """The options of a video that came with the weights, by name; a run takes them where none are given.

    Raises:
      UserError: the folder or its manifest is missing, or damaged.
    """
    return _values(folder).get("settings", {})


def sizes(folder: str | Path, component: str) -> dict[str, Any]:
    """A component's config as plain values, of any component that is there.

    Raises:
      UserError: it is not, or is damaged.
    """
    path = Path(folder) / component / CONFIG
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not JSON ({error}); {conversion(folder, component)}") from None


def check_ours(folder: str | Path) -> None:
    """Make sure that a manifest that will be replaced, if one is there, is one of ours, though maybe cut short.

    Raises:
      UserError: it is another program's.
    """
    path = Path(folder) / FILE
    try:
        values = json.loads(path.read_bytes()) if path.is_file() else None
    except ValueError:
        return
    if values is not None and not (isinstance(values, dict) and {"components", "format"} <= values.keys()):
        raise UserError(f"{path}: is another program's; give another folder", field="output")


def _values(folder: str | Path) -> dict[str, Any]:
    path = Path(folder) / FILE
    if path.parent.is_file():
        raise UserError(f"{folder}: is a file; give the folder of converted weights")
    if not path.parent.is_dir():
        raise UserError(f"{folder}: no such folder; to make it, {conversion(folder)}")
    if not path.is_file() and _holds_published(path.parent):
        raise UserError(
            f"{folder}: holds PyTorch files, which must be converted first; run talkverse-jax convert with the flags "
            "that name them and another folder as --output, and give that one here"
        )
    if not path.is_file():
        raise UserError(
            f"{folder}: no {FILE}: not converted weights, or a conversion that did not finish; " + conversion(folder)
        )
    try:
        values = unstamped(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, AttributeError):
        values = None
    if values is None or not {"components", "format"} <= values.keys() <= {
        "components",
        "format",
        "family",
        "settings",
    }:
        raise UserError(f"{path}: damaged; {conversion(folder)}")
    return values


def _holds_published(folder: Path) -> bool:
    """Whether weights of PyTorch lie in a folder, or in one of those in it."""
    return any(file.suffix in (".safetensors", ".pth") for pattern in ("*", "*/*") for file in folder.glob(pattern))


def conversion(folder: str | Path, component: str | None = None) -> str:
    """What to type to convert into a folder, for messages; where the files to convert lie is not known."""
    only = f" --components {component}" if component else ""
    return (
        f"run talkverse-jax convert --output {folder}{only} with the flags that name the published files (and "
        "--config, if the sizes are others)"
    )


def write(
    folder: str | Path, manifest: Manifest, family: str, settings: Mapping[str, Any] = MappingProxyType({})
) -> None:
    """Put a manifest in place of the old one, in one step.

    Args:
      family: that all components are of.
      settings: that come with the weights.
    """
    components = {name: plain(entry) for name, entry in manifest.items()}
    values = {"format": _FORMAT, "family": family, "components": components}
    if settings:
        values["settings"] = dict(settings)
    write_json(Path(folder) / FILE, stamped(values))


def note_settings(folder: str | Path, settings: Mapping[str, Any]) -> None:
    """Put the settings that come with the weights in the place of those that are there.

    Raises:
      UserError: the folder or its manifest is missing, or damaged.
    """
    write(folder, read(folder), family(folder) or "", settings)


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Hashing(threading.Thread):
    """SHA-256 of files, computed beside the conversion."""

    def __init__(self, paths: Iterable[Path]):
        super().__init__(daemon=True)
        self._paths = tuple(paths)
        self._sources: list[Source] = []
        self._error: OSError | None = None

    def run(self) -> None:
        try:
            for path in self._paths:
                status = path.stat()
                self._sources.append(Source(path.name, status.st_size, status.st_mtime_ns, sha256(path)))
        except OSError as error:
            self._error = error

    def sources(self) -> tuple[Source, ...]:
        """The files' entries, as soon as all are done.

        Raises:
          OSError: a file could not be read.
        """
        self.join()
        if self._error:
            raise self._error
        return tuple(self._sources)


def unchanged(sources: Iterable[Source], paths: Iterable[Path]) -> bool:
    """Whether these are the files, going by name, size and time of change."""
    now = sorted((path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in paths)
    return now == sorted((source.file, source.bytes, source.modified_ns) for source in sources)
