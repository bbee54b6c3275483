"""A command line and a TOML file that set the same frozen dataclass; the command line wins.

A field's metadata says how it is shown:

    image: str = option("the person to animate", group="input")            # required
    sample_steps: int = option("denoising steps", group="sampling", default=50)
    videos: tuple[str, ...] = option("files", group="input", metavar="FILE", default=())   # --videos A B; a list
"""

import argparse
import dataclasses
import difflib
import math
import types
import typing
from typing import Any, TypeVar

from talkverse_jax.core.config import from_dict, read_toml
from talkverse_jax.core.errors import UserError

Options = TypeVar("Options")


def option(
    help: str,
    *,
    group: str,
    default: Any = dataclasses.MISSING,
    metavar: str | None = None,
    decides: bool = False,
) -> Any:
    """A dataclass field with its line of help; without a default it is required.

    Args:
      metavar: what help shows for the value; FILE and DIR are paths.
      decides: the value changes a video beyond rounding. Of a FILE its contents count.
    """
    metadata = {"help": help, "group": group, "metavar": metavar, "decides": decides}
    return dataclasses.field(default=default, metadata=metadata)


def build(groups: dict[str, type], values: dict[str, Any], where: str) -> dict[str, Any]:
    """Options in several groups from values by name.

    Args:
      groups: frozen dataclasses of `option` fields, by a name for each.
      where: the file or command the values come from, for error messages.

    Raises:
      UserError: a value is unknown, missing, or of the wrong type.
    """
    known = {field.name: name for name, cls in groups.items() for field in dataclasses.fields(cls)}
    for key in values:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"the keys are {', '.join(known)}"
            raise UserError(f"{where}: unknown key {key!r}; {hint}")
    return {
        name: from_dict(cls, {key: value for key, value in values.items() if known[key] == name}, where)
        for name, cls in groups.items()
    }


def defaults(*groups: Any) -> dict[str, Any]:
    """Of the options that decide a video, what they are unless given."""
    return {
        field.name: field.default
        for group in groups
        for field in dataclasses.fields(group)
        if field.metadata["decides"] and field.metadata["metavar"] != "FILE"
    }


def read(groups: dict[str, type], prog: str, description: str, argv: list[str] | None = None) -> dict[str, Any]:
    """The values given for options in several groups, by `--config FILE.toml` and by the flags beside it.

    Raises:
      UserError: a flag is unknown or its value of the wrong type.
    """
    fields = [one for cls in groups.values() for one in _hinted(cls)]
    everything = dataclasses.make_dataclass("_Options", fields, kw_only=True)
    given = vars(build_parser(everything, prog, description).parse_args(argv))
    file = given.pop("config", None)
    return (read_toml(file) if file else {}) | given


def names(groups: dict[str, type]) -> set[str]:
    """Of all options."""
    return {field.name for cls in groups.values() for field in dataclasses.fields(cls)}


def _hinted(cls: type) -> list[tuple[str, Any, Any]]:
    hints = typing.get_type_hints(cls)
    return [
        (field.name, hints[field.name], dataclasses.field(default=field.default, metadata=field.metadata))
        for field in dataclasses.fields(cls)
    ]


def parse_options(cls: type[Options], prog: str, description: str, argv: list[str] | None = None) -> Options:
    """Read the dataclass `cls` from `--config FILE.toml` and the flags given beside it.

    Raises:
      UserError: a value is unknown, of the wrong type, or a required one is missing. The message names the
        flag or the file's key.
    """
    parser = build_parser(cls, prog, description)
    given = vars(parser.parse_args(argv))
    file = given.pop("config", None)
    values = read_toml(file) if file else {}
    values.update(given)
    missing = [
        f"--{field.name}"
        for field in dataclasses.fields(cls)
        if field.default is dataclasses.MISSING and field.name not in values
    ]
    if missing:
        raise UserError(f"{prog}: {', '.join(missing)} missing; see {prog} --help")
    return from_dict(cls, values, file or prog)


def check_at_least(options: Any, **least: float) -> None:
    """Check numbers of the options, those that are given, against the least value of each.

    Raises:
      UserError: one is smaller.
    """
    for name, bound in least.items():
        value = getattr(options, name)
        if value is not None and value < bound:
            raise UserError(f"--{name} {value}: give {bound} or more")


def check_shares(options: Any, *names: str) -> None:
    """Check that numbers of the options are probabilities.

    Raises:
      UserError: one is not.
    """
    for name in names:
        if not 0 <= (value := getattr(options, name)) <= 1:
            raise UserError(f"--{name} {value}: give a number from 0 to 1")


def build_parser(cls: type, prog: str, description: str) -> argparse.ArgumentParser:
    """The argument parser of the dataclass `cls`, its fields in their groups."""
    parser = CommandParser(prog=prog, description=description, argument_default=argparse.SUPPRESS)
    parser.add_argument("--config", metavar="FILE", type=path, help="TOML file of these options; flags win over it")
    groups: dict[str, Any] = {}
    hints = typing.get_type_hints(cls)
    for field in sorted(dataclasses.fields(cls), key=lambda field: field.kw_only):  # a base class's come last
        title = field.metadata["group"]
        if title not in groups:
            groups[title] = parser.add_argument_group(title)
        text = field.metadata["help"]
        if field.default is dataclasses.MISSING:
            text += " (required)"
        elif field.default is not None and field.default != ():
            shown = str(field.default).lower() if isinstance(field.default, bool) else field.default
            text += f" (default: {shown})"
        kind = _plain(hints[field.name])
        kwargs: dict[str, Any] = {"help": text.replace("%", "%%"), "metavar": field.metadata["metavar"]}
        if typing.get_origin(kind) is typing.Literal:
            kwargs |= {"choices": typing.get_args(kind), "metavar": None}
        elif kind is bool:
            kwargs |= {"type": boolean, "nargs": "?", "const": True, "metavar": "true|false"}
        elif typing.get_origin(kind) is tuple:
            kwargs |= {"type": path, "nargs": "+"}
        else:
            kwargs |= {"type": path if field.metadata["metavar"] in ("FILE", "DIR") else kind}
        groups[title].add_argument(f"--{field.name}", **kwargs)
    return parser


class CommandParser(argparse.ArgumentParser):
    """Raises `UserError` where argparse prints its usage; an unknown flag is told the nearest one."""

    def __init__(self, **kwargs):
        super().__init__(formatter_class=_formatter, allow_abbrev=False, **kwargs)

    def error(self, message: str) -> typing.NoReturn:
        if message.startswith("unrecognized arguments:"):
            flag = message.split()[2]
            near = difflib.get_close_matches(flag, self._option_string_actions, n=1)
            message = f"{flag}: unknown flag" + (f", did you mean {near[0]}?" if near else "")
        raise UserError(f"{self.prog}: {message}; see {self.prog} --help")


def _formatter(prog: str) -> argparse.HelpFormatter:
    return argparse.HelpFormatter(prog, max_help_position=32, width=110)


def _plain(hint: Any) -> Any:
    """The type inside `T | None`."""
    if isinstance(hint, types.UnionType):
        return next(arg for arg in typing.get_args(hint) if arg is not type(None))
    return hint


def path(text: str) -> str:
    """A flag's path; what an unset variable of the shell leaves is none."""
    if not text:
        raise argparse.ArgumentTypeError("is empty; give a path")
    return text


def number(text: str) -> float:
    """A flag's finite number."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"{text!r} is no number")
    return value


def boolean(text: str) -> bool:
    """A flag's `true` or `false`, in either case."""
    if text.lower() in ("true", "1", "yes"):
        return True
    if text.lower() in ("false", "0", "no"):
        return False
    raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")
