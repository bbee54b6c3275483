"""The list of a batch: which videos are to be made, each with its settings."""

import dataclasses
import re
from pathlib import Path
from typing import Any

from talkverse_jax.core import options, strict_json
from talkverse_jax.core.errors import UserError, brief
from talkverse_jax.core.files import join
from talkverse_jax.core.paths import same_name
from talkverse_jax.core.text import lines, read_text
from talkverse_jax.pipeline import registry
from talkverse_jax.pipeline.job import Job
from talkverse_jax.pipeline.machine import Machine, Weights

_NO_NAME = re.compile(r"^\.|[/\\\x00-\x1f\ud800-\udfff]")
_WINDOWS = re.compile(r"[A-Za-z]:(\\|/(?!/))|\\\\")  # what a path begins with from a drive, or another machine
_LONGEST_NAME = 200  # bytes


@dataclasses.dataclass(frozen=True)
class Item:
    """One video of a batch.

    Attributes:
      id: the name of its files.
      job: None where its values cannot be used.
      error: why not.
    """

    id: str
    job: Job | None
    error: str | None = None


@dataclasses.dataclass(frozen=True)
class Base:
    """What the items of a list have in common.

    Attributes:
      settings: values that hold where an item sets no other, by name.
    """

    family: str
    weights: Weights
    machine: Machine
    settings: dict[str, Any]


def read_list(path: str, base: Base) -> list[Item]:
    """The items of a JSON list, or of a file with a JSON object a line.

    An item names its files, and whatever it wants otherwise than `base` has it, by the names of the flags; `id` names
    its videos, by default its place in the list. Paths are relative to the list. One that asks for no seed has
    one of its id. A bad item comes with its error.

    Raises:
      UserError: no such file, no text, no JSON, or two items of one id.
    """
    rows = _rows(path)
    width = len(str(len(rows) - 1))
    items = [_item(row, f"{number:0{width}d}", path, base) for number, row in enumerate(rows)]
    ids: set[str] = set()
    for item in items:
        if same_name(item.id) in ids:
            raise UserError(f"{path}: two items have the id {item.id!r}; give each its own")
        ids.add(same_name(item.id))
    if not items:
        raise UserError(f"{path}: no items in it; give one object a video")
    return items


def _rows(path: str) -> list[Any]:
    text = read_text(path, "a list of videos (JSON, or JSON lines)")
    if text.lstrip().startswith("["):
        return strict_json.loads(text, path)
    return [strict_json.loads(line, path, number) for number, line in enumerate(lines(text), 1) if line.strip()]


def _item(row: Any, number: str, path: str, base: Base) -> Item:
    if not isinstance(row, dict):
        return Item(f"#{number}", None, f"{brief(row)}: not an object; give image, audio and prompt by their names")
    module = registry.settings_of(base.family)
    groups = {"files": module.Files, "settings": module.Settings}
    aliases = {each.alias: each.name for each in options.describe(groups) if each.alias}
    values: dict[str, Any] = {aliases.get(name) or name: value for name, value in row.items()}
    given = values.pop("id", None)
    name = number if given is None else str(given)
    plain = given is None or isinstance(given, (str, int, float))
    if not plain or _NO_NAME.search(name) or not 0 < len(name.encode("utf-8", "replace")) <= _LONGEST_NAME:
        error = f"id {brief(given)}: no name for files; leave out / and a dot in front, or shorten it"
        return Item(f"#{number}", None, error)
    paths = {field.name for field in dataclasses.fields(module.Files) if field.metadata["metavar"] == "FILE"}
    try:
        if twice := [alias for alias, flag in aliases.items() if alias in row and flag in row]:
            raise UserError(f"{twice[0]}, {aliases[twice[0]]}: are the same; give one of them")
        common = {field.name for cls in (Weights, Machine) for field in dataclasses.fields(cls)}
        if other := next((key for key in values if key in common), None):
            raise UserError(f"{other}: is the same for the whole batch; give it as --{other}")
        files = {key: _beside(path, value) for key, value in values.items() if key in paths}
        built = options.build(groups, base.settings | values | files, "item")
        job = Job.make(base.family, base.weights, base.machine, **built, output=f"{name}.mp4")
        return Item(name, job.with_seed_of(name))
    except UserError as error:
        text = str(error)
        for alias, flag in aliases.items():
            text = text.replace(f"item: {flag}:", f"item: {alias}:") if alias in row else text
        return Item(name, None, text)


def _beside(path: str, value: Any) -> Any:
    """A path, or several, that is relative to the list's folder."""
    if isinstance(value, list):
        return [_below(path, one) for one in value]
    return _below(path, value)


def _below(path: str, value: Any) -> Any:
    if not isinstance(value, str):
        return value
    if not value:
        raise UserError("a path is empty; name the file, or leave it out")
    if _WINDOWS.match(value):
        raise UserError(f"{brief(value)}: a path of Windows; give one that starts from the list's folder")
    return join(str(Path(path).parent), value)
