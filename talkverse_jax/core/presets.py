"""TOML files of options, by path or by the name of a preset (`configs/`)."""

import difflib
from pathlib import Path
from typing import Any

import talkverse_jax
from talkverse_jax.core.config import read_toml
from talkverse_jax.core.errors import UserError
from talkverse_jax.core.paths import expanded, on_disk

_HERE = "{here}/"


def folder() -> Path:
    """Where the presets lie: in an installed package inside it, in a clone beside it."""
    package = Path(talkverse_jax.__file__).parent
    inside = package / "presets"
    return inside if inside.is_dir() else package.parent / "configs"


def names(kind: str = ".") -> list[str]:
    """Of all presets of a kind: those of the folder itself, or of `mesh`."""
    return sorted(file.stem for file in (folder() / kind).glob("*.toml"))


def is_preset(name: str | Path) -> bool:
    """Whether a name is that of a preset and of no file."""
    return not on_disk(expanded(name)).is_file() and (folder() / f"{name}.toml").is_file()


def find(name: str | Path, kind: str = ".") -> Path:
    """The file of that path, or the preset of that name.

    Raises:
      UserError: there is neither; the nearest preset is named.
    """
    path, preset = on_disk(expanded(name)), folder() / kind / f"{name}.toml"
    if path.is_file():
        return path
    if preset.is_file():
        return preset
    if path.exists():
        raise UserError(f"{name}: is a folder; give a TOML file or the name of a preset")
    known = names(kind)
    near = difflib.get_close_matches(path.stem, known, n=1)
    hint = f"did you mean the preset {near[0]}?" if near else f"the presets are {', '.join(known)}"
    raise UserError(f"{name}: no such file or preset; {hint}")


def read(name: str | Path) -> dict[str, Any]:
    """The values of a file or preset.

    A relative path in it starts from the current folder; one that begins with `{here}/` from the file's own folder.

    Raises:
      UserError: there is none, or it is not TOML.
    """
    file = find(name)
    return {key: _placed(value, file.parent) for key, value in read_toml(file).items()}


def _placed(value: Any, here: Path) -> Any:
    if isinstance(value, list):
        return [_placed(each, here) for each in value]
    if isinstance(value, str) and value.startswith(_HERE):
        return str(here / value.removeprefix(_HERE))
    return value
