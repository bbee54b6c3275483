"""Options: frozen dataclasses, a field an option, nested by concern and flat as flags, TOML keys and parameters.

    @dataclasses.dataclass(frozen=True)
    class Settings:
        prompt: str = option("what is seen", group="input", metavar="TEXT")                        # required
        sample_steps: int = option("denoising steps", group="sampling", metavar="N", default=50)

    made = build({"files": Files, "settings": Settings}, {"image": "a.png", "prompt": "..."}, "run.toml")
    made["settings"].sample_steps

The same definition gives flags and `--help` (`cli/flags.py`), the schema of a request, and `docs/flags.md`. A
dataclass checks its own values in `__post_init__` and raises `UserError(reason, field=name)`. Imports no JAX.
"""

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from talkverse_jax.core.config import from_dict
from talkverse_jax.core.errors import UserError, brief
from talkverse_jax.core.text import is_text

Groups = Mapping[str, type]  # frozen dataclasses of `option` fields, by a name for each

NO_FILE = "none"  # in a list of files: nothing is in this place

_JSON_TYPES = {bool: "boolean", int: "integer", float: "number", str: "string"}


def option(
    help: str,
    *,
    group: str,
    default: Any = dataclasses.MISSING,
    metavar: str | None = None,
    decides: bool = False,
    positional: bool = False,
    least: float | None = None,
    most: float | None = None,
    above: float | None = None,
    alias: str | None = None,
    of: str | None = None,
    beside: str | None = None,
    lowers_memory: tuple[int, str] | None = None,
    expands: Callable[[str], dict[str, Any]] | None = None,
) -> Any:
    """A dataclass field with its line of help; without a default it is required.

    Args:
      group: the heading under which help shows it.
      metavar: what help shows for the value; FILE and DIR are paths, a LIST is separated by commas.
      decides: the value changes a video beyond rounding. Of a FILE its contents count.
      positional: a command takes it without a flag.
      least, most: the smallest and the largest number that may be given; `check_bounds` checks them.
      above: in place of `least`, what a number must be larger than.
      alias: a short name in the lists of batches.
      of: the option that this one belongs to: where that one is not given, or off, it decides nothing.
      beside: the name of a file that belongs to those that the option names, where it lies in their folder.
      lowers_memory: what to give where memory is too small, behind its place among such options, the cheapest first.
      expands: of an option that names a file which gives others: they, from its path (see `expand`).
    """
    metadata = {"help": help, "group": group, "metavar": metavar, "decides": decides, "positional": positional}
    metadata |= {"least": least, "most": most, "above": above}
    more = {"alias": alias, "of": of, "beside": beside, "lowers_memory": lowers_memory, "expands": expands}
    return dataclasses.field(default=default, metadata=metadata | more)


@dataclasses.dataclass(frozen=True)
class Option:
    """An option as its dataclass defines it.

    Attributes:
      kind: int, float, str, bool, a Literal or a tuple; of `T | None`, T.
      words: what may be given in place of a number: of `float | Literal["none"]`, none.
      nullable: whether it may be None.
      default: `dataclasses.MISSING` where it is required.
    """

    name: str
    kind: Any
    words: tuple[str, ...]
    nullable: bool
    default: Any
    help: str
    group: str
    metavar: str | None
    decides: bool
    positional: bool
    least: float | None
    most: float | None
    above: float | None
    alias: str | None
    of: str | None
    beside: str | None
    lowers_memory: tuple[int, str] | None
    expands: Callable[[str], dict[str, Any]] | None

    @property
    def required(self) -> bool:
        return self.default is dataclasses.MISSING

    @property
    def choices(self) -> tuple[str, ...]:
        """What a Literal allows."""
        return typing.get_args(self.kind) if typing.get_origin(self.kind) is typing.Literal else ()

    @property
    def bounds(self) -> str:
        """Which numbers may be given, such as `1 or more`; empty where all may."""
        return _bounds(self.least, self.most, self.above)

    @property
    def many(self) -> bool:
        """Whether it is a list."""
        return typing.get_origin(self.kind) is tuple

    @property
    def is_path(self) -> bool:
        return self.metavar in ("FILE", "DIR")


def describe(groups: Groups) -> list[Option]:
    """The options of all groups, in order of definition."""
    found: dict[str, Option] = {}
    for cls in groups.values():
        hints = typing.get_type_hints(cls)
        for field in dataclasses.fields(cls):
            if field.name in found:
                raise ValueError(f"{cls.__name__}.{field.name}: another group has this option too")
            found[field.name] = Option(field.name, *_plain(hints[field.name]), field.default, **field.metadata)
    return list(found.values())


def lowering_memory(options: Iterable[Option], values: Mapping[str, Any]) -> list[str]:
    """The flags that would lower a command's memory, the cheapest first.

    Args:
      values: what is given; what is so already is left out.
    """
    found = []
    for each in options:
        if each.lowers_memory is not None:
            place, advice = each.lowers_memory
            if str(values.get(each.name, each.default)).lower() != advice.partition(",")[0]:
                found.append((place, f"--{each.name} {advice}"))
    return [flag for _, flag in sorted(found)]


def _plain(hint: Any) -> tuple[Any, tuple[str, ...], bool]:
    """T, the words of the Literal and True of `T | Literal[...] | None`; else the hint, none and False."""
    if typing.get_origin(hint) not in (types.UnionType, typing.Union):
        return hint, (), False
    kind, *others = typing.get_args(hint)
    words = tuple(word for other in others for word in typing.get_args(other))
    return kind, words, type(None) in others


def expand(groups: Groups, values: Mapping[str, Any]) -> dict[str, Any]:
    """The values, and those from files that some of them name; what is given itself wins.

    Raises:
      UserError: such a file cannot be used.
    """
    found = dict(values)
    for each in describe(groups):
        if each.expands is not None and isinstance(path := values.get(each.name), str):
            found = each.expands(path) | found
    return found


def build(groups: Groups, values: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Make the dataclasses, by the names of their groups, from values by the names of the options; one text stands for
    a list of one.

    Args:
      where: the file, request or call the values come from, for error messages.

    Raises:
      UserError: a value is unknown, missing, of the wrong type, or refused by its dataclass, or a text has what no
        text has. `field` is its name.
    """
    values = expand(groups, values)
    check_known(groups, values, where)
    known = {each.name: each for each in describe(groups)}
    values = {
        name: (value,) if known[name].many and isinstance(value, (str, float)) else value
        for name, value in values.items()
    }
    for name, value in values.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise UserError(f"{value}: give a number", field=name, where=where)
        for text in value if isinstance(value, (list, tuple)) else (value,):
            if isinstance(text, str) and (fault := _fault(text, known[name].is_path)):
                raise UserError(f"{brief(text)}: {fault}", field=name, where=where)
    return {
        name: from_dict(cls, {f.name: values[f.name] for f in dataclasses.fields(cls) if f.name in values}, where)
        for name, cls in groups.items()
    }


def _fault(text: str, is_path: bool) -> str | None:
    """What is in a text that cannot be written down or opened, and what to do."""
    if not is_text(text):
        return "has bytes that are not UTF-8, or half a character; " + ("rename it" if is_path else "write it in UTF-8")
    if "\0" in text:
        return "has a character 0; leave it out"
    if is_path and any(character < " " for character in text):
        return "has a line break or a tab; in TOML and JSON a \\ in quotes begins one: write /"
    return None


def check_known(groups: Groups, names: Iterable[str], where: str) -> None:
    """Check that all names are options.

    Raises:
      UserError: one is not; the nearest option is named.
    """
    known = [field.name for cls in groups.values() for field in dataclasses.fields(cls)]
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"the keys are {', '.join(known)}"
            raise UserError(f"unknown key {brief(name)}; {hint}", where=where)


def defaults(*made: Any) -> dict[str, Any]:
    """Of the options that decide a video, what they are unless given.

    Args:
      made: option dataclasses, or instances of them.
    """
    return {
        field.name: field.default
        for group in made
        for field in dataclasses.fields(group)
        if field.metadata["decides"] and field.metadata["metavar"] != "FILE"
    }


def blanks(groups: Groups) -> dict[str, Any]:
    """A value for each required option, where what it is does not matter."""

    def blank(each: Option) -> Any:
        if each.many:
            return ()
        return each.choices[0] if each.choices else each.kind()

    return {each.name: blank(each) for each in describe(groups) if each.required}


def schema(groups: Groups) -> dict[str, Any]:
    """The JSON schema (2020-12) of an object that holds the options of all groups, flat."""
    found = describe(groups)
    return {
        "type": "object",
        "properties": {each.name: _property(each) for each in found},
        "required": [each.name for each in found if each.required],
        "additionalProperties": False,
    }


def _property(each: Option) -> dict[str, Any]:
    made = _json_type(each.kind)
    bounds = {"minimum": each.least, "maximum": each.most, "exclusiveMinimum": each.above}
    made |= {name: bound for name, bound in bounds.items() if bound is not None}
    others = [{"enum": list(each.words)}] if each.words else []
    others += [{"type": "null"}] if each.nullable else []
    if others:
        made = {"anyOf": [made, *others]}
    made |= {"description": each.help}
    if each.required:
        return made
    return made | {"default": list(each.default) if each.many else each.default}


def _json_type(kind: Any) -> dict[str, Any]:
    if typing.get_origin(kind) is typing.Literal:
        return {"enum": list(typing.get_args(kind))}
    if typing.get_origin(kind) is tuple:
        return {"type": "array", "items": _json_type(typing.get_args(kind)[0])}
    return {"type": _JSON_TYPES[kind]}


def _bounds(least: float | None, most: float | None, above: float | None) -> str:
    if least is not None:
        return f"{least:.15g} or more" if most is None else f"{least:.15g} to {most:.15g}"
    parts = ([] if above is None else [f"above {above:.15g}"]) + ([] if most is None else [f"at most {most:.15g}"])
    return ", ".join(parts)


def check_bounds(options: Any) -> None:
    """Check that all numbers of the options are finite and within the bounds of their definition.

    Raises:
      UserError: one is not.
    """
    for field in dataclasses.fields(options):
        value = getattr(options, field.name)
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            continue
        least, most, above = (field.metadata[name] for name in ("least", "most", "above"))
        low, high = (
            (least is None or value >= least) and (above is None or value > above),
            most is None or value <= most,
        )
        if not (math.isfinite(value) and low and high):
            words = _bounds(least, most, above)
            if least is None or most is not None:
                words = f"a number {'' if least is None else 'from '}{words}".rstrip()
            raise UserError(f"{value}: give {words}", field=field.name)
