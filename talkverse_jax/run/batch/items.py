"""The list of a batch: which videos are to be made, each with its settings."""

import dataclasses
import re
import traceback
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
from talkverse_jax.run.batch.helped import ItemHelp
from talkverse_jax.run.batch.names import check_id

_WINDOWS = re.compile(r"[A-Za-z]:(\\|/(?!/))|\\\\")  # what a path begins with from a drive, or another machine


@dataclasses.dataclass(frozen=True)
class Item:
    """One video of a batch.

    Attributes:
      id: the name of its files.
      job: None where its values cannot be used.
      error: why not.
      trace: where nobody foresaw that.
      wish: as it was given, where helpers decide what its job is made of.
    """

    id: str
    job: Job | None
    error: str | None = None
    trace: str = ""
    wish: list[Any] | None = None


@dataclasses.dataclass(frozen=True)
class Base:
    """What the items of a list have in common.

    Attributes:
      settings: values that hold where an item sets no other, by name.
      help: what improves prompts and speaks texts, where items may ask for it.
    """

    family: str
    weights: Weights
    machine: Machine
    settings: dict[str, Any]
    help: ItemHelp | None = None


def read_list(path: str, base: Base) -> list[Item]:
    """The items of a JSON list, or of a file with a JSON object a line.

    An item names its files, and whatever it wants otherwise than `base` has it, by the names of the flags; `id` names
    its videos, by default its place in the list. Paths are relative to the list. One that asks for no seed has
    one of its id. A bad item comes with its error, and so does a line that is no JSON.

    Raises:
      UserError: no such file, no text, no JSON in it, or two items of one id.
    """
    rows = _rows(path)
    width = len(str(len(rows) - 1))
    try:
        items = [_item(row, f"{number:0{width}d}", path, base) for number, row in enumerate(rows)]
    finally:
        if base.help is not None:
            base.help.close()
    ids: set[str] = set()
    for item in items:
        if same_name(item.id) in ids:
            raise UserError(f"{path}: two items have the id {item.id!r}; give each its own")
        ids.add(same_name(item.id))
    if not items:
        raise UserError(f"{path}: no items in it; give one object a video")
    return items


def _rows(path: str) -> list[Any]:
    """The values of the list; a `UserError` in place of a line that cannot be read."""
    text = read_text(path, "a list of videos (JSON, or JSON lines)")
    whole = _row(text, path) if text.lstrip().startswith("[") else None
    if isinstance(whole, list):
        return whole
    rows = [_row(line, path, number) for number, line in enumerate(lines(text), 1) if line.strip()]
    objects = sum(isinstance(row, dict) for row in rows)
    if whole is not None and (text.rstrip().endswith("]") or 2 * objects < len(rows)):
        raise whole  # a list with an error in it; otherwise lines, the first of which is a bad item
    if rows and not objects and all(isinstance(row, UserError) for row in rows):
        raise rows[0]  # not one item: another kind of file
    return rows


def _row(text: str, path: str, number: int | None = None) -> Any:
    try:
        return strict_json.loads(text, path, number)
    except UserError as error:
        return error


def _item(row: Any, number: str, path: str, base: Base) -> Item:
    """Whatever is wrong with a row stays in its item."""
    if isinstance(row, UserError):
        return Item(f"#{number}", None, str(row))
    if not isinstance(row, dict):
        return Item(f"#{number}", None, f"{brief(row)}: not an object; give image, audio and prompt by their names")
    name = f"#{number}"
    try:
        name = check_id(number if row.get("id") is None else row["id"])
        return _made(row, name, path, base)
    except UserError as error:
        return Item(name, None, str(error))
    except Exception as error:
        return Item(name, None, f"{type(error).__name__}: {error}".partition("\n")[0], traceback.format_exc())


def _made(row: dict[str, Any], name: str, path: str, base: Base) -> Item:
    module = registry.settings_of(base.family)
    groups = {"files": module.Files, "settings": module.Settings}
    aliases = {each.alias: each.name for each in options.describe(groups) if each.alias}
    values: dict[str, Any] = {aliases.get(key) or key: value for key, value in row.items() if key != "id"}
    wish: list[Any] | None = None
    paths = {field.name for field in dataclasses.fields(module.Files) if field.metadata["metavar"] == "FILE"}
    try:
        if twice := [alias for alias, flag in aliases.items() if alias in row and flag in row]:
            raise UserError(f"{twice[0]}, {aliases[twice[0]]}: are the same; give one of them")
        common = {field.name for cls in (Weights, Machine) for field in dataclasses.fields(cls)}
        if other := next((key for key in values if key in common), None):
            raise UserError(f"{other}: is the same for the whole batch; give it as --{other}")
        files = {key: _beside(path, value) for key, value in values.items() if key in paths}
        values = base.settings | options.expand(groups, values | files)
        note = None
        if base.help is not None:
            values, wanted = base.help.wanted(values)
            if wanted is not None:
                wish = [base.family, *map(dataclasses.asdict, (base.weights, base.machine)), values, wanted.told]
                options.build(groups, values | base.help.standing_in(wanted), "item")  # before anybody is asked
                given, note = base.help.give(name, wanted)
                values |= given
        built = options.build(groups, values, "item")
        job = Job.make(base.family, base.weights, base.machine, **built, output=f"{name}.mp4", helped=note)
        return Item(name, job.with_seed_of(name), wish=wish)
    except UserError as error:
        text = str(error)
        for alias, flag in aliases.items():
            text = text.replace(f"item: {flag}:", f"item: {alias}:") if alias in row else text
        return Item(name, None, text, wish=wish)


def _beside(path: str, value: Any) -> Any:
    """A path, or several, that is relative to the list's folder."""
    if isinstance(value, list):
        return [one if one == options.NO_FILE else _below(path, one) for one in value]
    return _below(path, value)


def _below(path: str, value: Any) -> Any:
    if not isinstance(value, str):
        return value
    if not value:
        raise UserError("a path is empty; name the file, or leave it out")
    if _WINDOWS.match(value):
        raise UserError(f"{brief(value)}: a path of Windows; give one that starts from the list's folder")
    return join(str(Path(path).parent), value)
