"""Frozen dataclass configs to and from plain dicts, JSON and TOML, strictly."""

import dataclasses
import difflib
import json
import tomllib
import typing
from pathlib import Path
from typing import Any, TypeVar

from talkverse_jax.core.errors import UserError
from talkverse_jax.core.paths import existing_file

Config = TypeVar("Config")


def from_dict(cls: type[Config], values: dict[str, Any], where: str) -> Config:
    """Build the frozen dataclass `cls` from a dict; nested dataclasses and tuples are converted.

    Args:
      where: the file or flag the values come from, for error messages.

    Raises:
      UserError: a key is unknown (the nearest right one is named), missing, or of the wrong type.
    """
    if not isinstance(values, dict):
        raise UserError(f"{where}: expected a table of values for {cls.__name__}, found {values!r}")
    hints = typing.get_type_hints(cls)
    fields = {field.name: field for field in dataclasses.fields(cls)}
    for key in values:
        if key not in fields:
            near = difflib.get_close_matches(key, fields, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"the keys are {', '.join(fields)}"
            raise UserError(f"{where}: unknown key {key!r}; {hint}")
    missing = [
        name
        for name, field in fields.items()
        if name not in values and field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise UserError(f"{where}: missing {', '.join(map(repr, missing))}; add a value for each")
    return cls(**{key: _convert(hints[key], value, f"{where}: {key}") for key, value in values.items()})


def _convert(hint: Any, value: Any, where: str) -> Any:
    if dataclasses.is_dataclass(hint):
        return from_dict(hint, value, where)
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise UserError(f"{where}: expected a list, found {value!r}")
        element = [args[0]] * len(value) if args[-1] is Ellipsis else args
        if len(element) != len(value):
            raise UserError(f"{where}: expected {len(element)} values, found {len(value)}")
        return tuple(_convert(h, v, where) for h, v in zip(element, value))
    if origin is not None:  # a Literal or a union: the first alternative that fits
        if origin is typing.Literal:
            if value not in args:
                raise UserError(f"{where}: {value!r} is none of {', '.join(map(repr, args))}")
            return value
        if value is None and type(None) in args:
            return None
        return _convert(next(arg for arg in args if arg is not type(None)), value, where)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint in (int, float, str, bool) and type(value) is not hint:
        raise UserError(f"{where}: expected {hint.__name__}, found {value!r}")
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
      UserError: the file is missing, a folder, or not TOML.
    """
    try:
        return tomllib.loads(existing_file(path, "one, such as those in configs/").read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not a TOML file ({error})") from None
