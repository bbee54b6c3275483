"""The list of a batch: which videos are to be made, each with its settings, and which are denoised together."""

import dataclasses
import json
import re
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from talkverse_jax.core.config import from_dict
from talkverse_jax.core.errors import UserError
from talkverse_jax.core.files import join
from talkverse_jax.core.paths import existing_file
from talkverse_jax.families.talkverse.alignment import frames_in_sound
from talkverse_jax.families.talkverse.inputs import read_inputs
from talkverse_jax.run.sample_options import SampleOptions

# Short names beside those of the flags.
_ALIASES = {"seed": "base_seed", "bucket": "size_bucket"}
_FILES = ("image", "audio")
_SETTINGS = {"prompt", "negative_prompt", *_FILES} | {
    field.name for field in dataclasses.fields(SampleOptions) if field.metadata["group"] in ("video", "sampling")
}
_NO_NAME = re.compile(r"^\.|[/\\\x00-\x1f]")
_LONGEST_NAME = 200  # bytes


@dataclasses.dataclass(frozen=True)
class Item:
    """One video of a batch.

    Attributes:
      id: the name of its files.
      options: None where they cannot be used.
      error: why not.
    """

    id: str
    options: SampleOptions | None
    error: str | None = None


@dataclasses.dataclass(frozen=True)
class BatchPlan:
    """Who is made together, in the order of the work.

    Attributes:
      packs: ids that are denoised as one batch.
      errors: of the items whose files cannot be used, by id.
    """

    packs: tuple[tuple[str, ...], ...]
    errors: dict[str, str]

    def to_json(self) -> bytes:
        return json.dumps(dataclasses.asdict(self)).encode()

    @classmethod
    def from_json(cls, data: bytes) -> "BatchPlan":
        values = json.loads(data)
        return cls(tuple(map(tuple, values["packs"])), values["errors"])


def read_list(path: str, options: SampleOptions) -> list[Item]:
    """The items of a JSON list, or of a file with a JSON object a line.

    An item sets `image`, `audio`, and whatever it wants otherwise than `options` have it, by the names of the
    flags; `id` names its files, by default its place in the list. Paths are relative to the list. One
    that asks for no seed has one of its id. A bad item comes with its error.

    Raises:
      UserError: no such file, no JSON, or two items of one id.
    """
    rows = _rows(path)
    width = len(str(len(rows) - 1))
    items = [_item(row, f"{number:0{width}d}", path, options) for number, row in enumerate(rows)]
    ids: set[str] = set()
    for item in items:
        if item.id in ids:
            raise UserError(f"{path}: two items have the id {item.id!r}; give each its own")
        ids.add(item.id)
    if not items:
        raise UserError(f"{path}: no items in it; give one object a video")
    return items


def _rows(path: str) -> list[Any]:
    data = existing_file(path, "a list of videos (JSON, or JSON lines)").read_bytes()
    try:
        text = data.decode("utf-8-sig")
        if text.lstrip().startswith("["):
            return json.loads(text)
    except ValueError as error:
        raise UserError(f"{path}: neither a JSON list nor JSON lines ({error})") from None
    rows = []
    for number, line in enumerate(text.splitlines(), 1):
        try:
            rows += [json.loads(line)] if line.strip() else []
        except ValueError as error:
            raise UserError(f"{path}: line {number} is no JSON ({error}); give one object a line") from None
    return rows


def _item(row: Any, number: str, path: str, options: SampleOptions) -> Item:
    if not isinstance(row, dict):
        return Item(f"#{number}", None, f"{row!r}: not an object with image, audio and prompt")
    values = {_ALIASES.get(name, name): value for name, value in row.items()}
    given = values.pop("id", None)
    name = number if given is None else str(given)
    if _NO_NAME.search(name) or not 0 < len(name.encode()) <= _LONGEST_NAME:
        error = f"id {name!r}: no name for files; leave out / and a dot in front, or shorten it"
        return Item(f"#{number}", None, error)
    try:
        if twice := [alias for alias, flag in _ALIASES.items() if alias in row and flag in row]:
            raise UserError(f"{twice[0]}, {_ALIASES[twice[0]]}: are the same; give one of them")
        unknown = next((key for key in values if key not in _SETTINGS), None)
        if unknown in SampleOptions.__dataclass_fields__:
            raise UserError(f"{unknown}: is the same for the whole batch; give it as --{unknown}")
        base = {field.name: getattr(options, field.name) for field in dataclasses.fields(options)}
        base |= dict.fromkeys(_FILES)  # what a config has is for single videos
        named = [key for key in _FILES if isinstance(values.get(key), str)]
        files = {key: join(str(Path(path).parent), values[key]) for key in named}
        item = from_dict(SampleOptions, base | {"output": f"{name}.mp4"} | values | files, "item")
        if item.base_seed == -1:
            item = dataclasses.replace(item, base_seed=zlib.crc32(name.encode()) & 2**31 - 1)
        return Item(name, dataclasses.replace(item, batch=None, output_dir=None).checked())
    except UserError as error:
        text = str(error)
        for alias, flag in _ALIASES.items():
            text = text.replace(f"item: {flag}:", f"item: {alias}:") if alias in row else text
        return Item(name, None, text)


def make_plan(items: Sequence[Item], size: int) -> BatchPlan:
    """Read the items' files, and put those of one shape together, at most `size` at a time; a function of the whole
    list. What is alike in shape comes one after the other, so that nothing is compiled twice.
    """
    with ThreadPoolExecutor() as pool:
        shapes = dict(zip((item.id for item in items), pool.map(_shape, items)))
    errors = {name: shape for name, shape in shapes.items() if isinstance(shape, str)}
    groups: dict[tuple, list[tuple[int, int, str]]] = {}
    for place, item in enumerate(items):
        if item.id not in errors:
            shape, clips = shapes[item.id]
            groups.setdefault(shape, []).append((clips, place, item.id))
    packs = []
    for shape in sorted(groups, key=str):
        alike = [name for *_, name in sorted(groups[shape])]  # videos of a pack are of about one length
        packs += [tuple(alike[first : first + size]) for first in range(0, len(alike), size)]
    return BatchPlan(tuple(packs), errors)


def _shape(item: Item) -> tuple[tuple, int] | str:
    """What must be the same to be denoised as one batch, and clips; or why the item cannot be made."""
    if item.error:
        return item.error
    options = item.options
    try:
        inputs = read_inputs(options)
    except UserError as error:
        return str(error)
    clips = options.clips(frames_in_sound(inputs.sound.duration))
    return (inputs.size, inputs.video is not None, dataclasses.astuple(options.clip_settings())), clips
