"""The families by name: the one table that names them.

A family is a package. Its module `settings` says what a person may set (`Files`, `Settings` with a `base_seed`,
`Sources`, `WindowSettings` and `TrainingSettings` with a `raised_rate`), which of it makes the person of a picture say
a sound (`of_person`), and what a request over HTTP means (`REQUEST`, see `pipeline.request`: by it a server knows which
option a field is, and the files of the people of a picture); it registers buckets of sizes of its own, and imports no
JAX. Its module `family` holds the record `FAMILY`, with the models; its package `original`, where it has one, runs the
program that it was written after.
"""

import importlib
import importlib.util
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from talkverse_jax.core.errors import UserError
from talkverse_jax.weights import manifest

if TYPE_CHECKING:  # it imports JAX
    from talkverse_jax.pipeline.family import Family

DEFAULT = "talkverse"  # also of weights that an older program converted, which name no family
_OURS = "talkverse_jax.families."
_PACKAGES = {DEFAULT: f"{_OURS}talkverse", "multitalk": f"{_OURS}multitalk"}


def register(name: str, package: str) -> None:
    """Add a family that lives in another package."""
    _PACKAGES[name] = package


def others() -> tuple[str, ...]:
    """The packages that were added; each registers itself when it is imported, so that other processes can."""
    return tuple(package for package in _PACKAGES.values() if not package.startswith(_OURS))


def names() -> list[str]:
    """Of all families."""
    return list(_PACKAGES)


def settings_of(name: str) -> ModuleType:
    """What a person may set of a family; imports no JAX.

    Raises:
      UserError: there is no such family.
    """
    return importlib.import_module(f"{_package(name)}.settings")


def find(name: str) -> "Family":
    """A family's record.

    Raises:
      UserError: there is no such family.
    """
    return importlib.import_module(f"{_package(name)}.family").FAMILY


def original_of(name: str) -> ModuleType:
    """The program that writes reference bundles with a family's original: `DumpOptions` and `run`. Imports neither JAX
    nor what the original needs.

    Raises:
      UserError: there is no such family, or it has none.
    """
    package = f"{_package(name)}.original"
    if importlib.util.find_spec(package) is None:
        raise UserError(f"{name}: has no original to write bundles with", field="family")
    return importlib.import_module(f"{package}.dump")


def family_of(weights_dir: str | Path) -> str:
    """The name of the family that converted weights are of.

    Raises:
      UserError: there are no converted weights there.
    """
    return manifest.family(weights_dir) or DEFAULT


def _package(name: str) -> str:
    if name not in _PACKAGES:
        raise UserError(f"{name}: no such family; there are {', '.join(_PACKAGES)}", field="family")
    return _PACKAGES[name]
