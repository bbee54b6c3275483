"""Frozen dataclass configs to and from plain dicts, JSON and TOML, strictly."""

import dataclasses
import difflib
import json
import re
import typing
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from talkverse_jax.core.errors import UserError, brief
from talkverse_jax.core.text import hint, lines, read_text

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

_MOST_TOML = 2**20  # bytes
# A key a.a.a... of 10,000 parts would keep tomllib busy for many seconds, by the square of their number.
_DEEP_KEY = re.compile(r"""(?m)(^[ \t]*(\[+[ \t]*)?|[{,][ \t]*)(("[^"\n]*"|'[^'\n]*'|[\w-]+)[ \t]*\.[ \t]*){20}""")

Config = TypeVar("Config", bound="DataclassInstance")


def from_dict(cls: type[Config], values: dict[str, Any], where: str) -> Config:
    """Build the frozen dataclass `cls` from a dict; nested dataclasses and tuples are converted.

    Args:
      where: the file or call the values come from, for error messages.

    Raises:
      UserError: a key is unknown (the nearest right one is named) or missing; a value is of the wrong type, or the
        dataclass refuses it. `field` is the key.
    """
    if not isinstance(values, dict):
        raise UserError(f"expected a table of values for {cls.__name__}, found {brief(values)}", where=where)
    hints = typing.get_type_hints(cls)
    fields = {field.name: field for field in dataclasses.fields(cls)}
    for key in values:
        if key not in fields:
            near = difflib.get_close_matches(key, fields, n=1)
            known = f"did you mean {near[0]!r}?" if near else f"the keys are {', '.join(fields)}"
            raise UserError(f"unknown key {brief(key)}; {known}", where=where)
    missing = [
        name
        for name, field in fields.items()
        if name not in values and field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise UserError(f"missing {', '.join(map(repr, missing))}; add a value for each", where=where)
    converted = {key: _convert(hints[key], value, where, key) for key, value in values.items()}
    try:
        return cls(**converted)
    except UserError as error:
        if error.where is None and error.field in values:
            raise UserError(error.reason, field=error.field, where=where) from None
        raise


def _convert(hint: Any, value: Any, where: str, key: str) -> Any:
    if dataclasses.is_dataclass(hint):
        return from_dict(typing.cast(type, hint), value, f"{where}: {key}")
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise UserError(f"expected a list, found {brief(value)}", field=key, where=where)
        element = [args[0]] * len(value) if args[-1] is Ellipsis else args
        if len(element) != len(value):
            raise UserError(f"expected {len(element)} values, found {len(value)}", field=key, where=where)
        return tuple(_convert(h, v, where, key) for h, v in zip(element, value))
    if origin is not None:  # a Literal or a union: the first alternative that fits
        if origin is typing.Literal:
            if value not in args:
                raise UserError(f"{brief(value)} is none of {', '.join(map(repr, args))}", field=key, where=where)
            return value
        if value is None and type(None) in args:
            return None
        if isinstance(value, str) and any(value in typing.get_args(arg) for arg in args):
            return value
        return _convert(next(arg for arg in args if arg is not type(None)), value, where, key)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint in (int, float, str, bool) and type(value) is not hint:
        raise UserError(f"expected {hint.__name__}, found {brief(value)}", field=key, where=where)
    return value


def to_dict(config: Any) -> dict[str, Any]:
    """The config as plain values that JSON can hold; `from_dict` gives it back."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


def load_toml(cls: type[Config], path: str | Path) -> Config:
    """Read the dataclass `cls` from a TOML file (see `configs/`)."""
    return from_dict(cls, read_toml(path), str(path))


def read_toml(path: str | Path) -> dict[str, Any]:
    """The values of a TOML file.

    Raises:
      UserError: the file is missing, a folder, no text, or not TOML.
    """
    import tomllib  # of Python 3.11, which the original's own environment may not have

    text = read_text(path, "one, such as those in configs/", _MOST_TOML)
    try:
        if _DEEP_KEY.search(text):
            raise RecursionError
        return tomllib.loads(text)
    except RecursionError:
        raise UserError(f"{path}: not a TOML file (nested too deeply); give plain values") from None
    except ValueError as error:  # of TOML; of a number with thousands of digits
        place = re.search(r"at line (\d+)", str(error))
        told = hint(lines(text)[int(place[1]) - 1]) if place else "; mend it"
        raise UserError(f"{path}: not a TOML file ({error}){told}") from None
