"""A file of preview videos: a JSON object a line, with image, audio and prompt, and settings of its own.

    {"id": "smile", "image": "a.png", "audio": "a.wav", "prompt": "A woman smiles.", "guidance": "both"}

`guidance` is `with` (by default), `without`, or `both`, which makes two videos. What a line leaves out is as the flags
of the preview have it. Paths are relative to the file.
"""

import dataclasses
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from talkverse_jax.core import options, strict_json
from talkverse_jax.core.errors import UserError, brief
from talkverse_jax.core.files import join
from talkverse_jax.core.paths import same_name
from talkverse_jax.core.text import lines, read_text
from talkverse_jax.pipeline import registry
from talkverse_jax.pipeline.training import PreviewRequest

_NAME = re.compile(r"\w[\w .-]{0,99}")
_GUIDED = {"with": {"": True}, "without": {"": False}, "both": {"": True, "-unguided": False}}  # by the name's end


@dataclasses.dataclass(frozen=True)
class Wanted:
    """A preview video.

    Attributes:
      name: of its own; empty where there is only one.
      values: of its job, by flag.
    """

    name: str
    values: dict[str, Any]


def read_previews(
    path: str, family: str, request: PreviewRequest, of_family: Callable[[PreviewRequest], dict[str, Any]]
) -> list[Wanted]:
    """The videos of a file.

    Args:
      request: what lines that say nothing else ask for.
      of_family: a request as the values of a job.

    Raises:
      UserError: no such file, no JSON, a line is no preview, or two have one name.
    """
    text = read_text(path, "a list of previews (JSON lines)")
    found: list[Wanted] = []
    for number, line in enumerate(lines(text), 1):
        if line.strip():
            row = strict_json.loads(line, path, number)
            found += _of_line(row, number, path, family, request, of_family)
    names = [same_name(each.name) for each in found]
    if twice := next((each.name for each in found if names.count(same_name(each.name)) > 1), None):
        raise UserError(f"{path}: two previews have the id {twice!r}; give each its own")
    if not found:
        raise UserError(f"{path}: no previews in it; give one object a line")
    return found


def _of_line(
    row: Any,
    number: int,
    path: str,
    family: str,
    request: PreviewRequest,
    of_family: Callable[[PreviewRequest], dict[str, Any]],
) -> Iterator[Wanted]:
    where = f"{path} line {number}"
    if not isinstance(row, dict):
        raise UserError(f"{where}: {brief(row)} is no object; give image, audio and prompt by their names")
    module = registry.settings_of(family)
    groups = {"files": module.Files, "settings": module.Settings}
    known = {each.name: each for each in options.describe(groups)}
    aliases = {each.alias: each.name for each in known.values() if each.alias}
    own: dict[str, Any] = {aliases.get(key) or key: value for key, value in row.items()}
    name, guidance = str(own.pop("id", number)), own.pop("guidance", "with")
    if not _NAME.fullmatch(name):
        raise UserError(f"{where}: id {brief(name)}: no name for files; give letters, digits, - and _")
    if not isinstance(guidance, str) or guidance not in _GUIDED:
        raise UserError(f"{where}: guidance {brief(guidance)}: give {', '.join(_GUIDED)}")
    for key, value in own.items():
        if key in ("image", "audio") or key in known and known[key].is_path:
            own[key] = [_beside(path, each) for each in value] if isinstance(value, list) else _beside(path, value)
    asked = {key: own.pop(key) for key in ("image", "audio", "prompt") if key in own}
    request = request._replace(**asked)
    if not (request.image and request.audio):
        raise UserError(f"{where}: needs image and audio, in the line or as --preview_image and --preview_audio")
    guided = of_family(request)
    for end, wanted in _GUIDED[guidance].items():
        differs = {} if wanted else of_family(request._replace(guided=False))
        values = guided | own | {key: value for key, value in differs.items() if guided.get(key) != value}
        options.build(groups, values, where)  # is checked
        yield Wanted(name + end, values)


def _beside(path: str, value: Any) -> Any:
    return join(str(Path(path).parent), value) if isinstance(value, str) and value else value
