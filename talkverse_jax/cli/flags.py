"""Options from a command line: `--config` names a TOML file or preset, and flags win over it."""

import argparse
import dataclasses
import difflib
import re
import sys
import typing
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NoReturn

from talkverse_jax.core import memory, presets
from talkverse_jax.core.errors import UserError
from talkverse_jax.core.options import Groups, Option, build, check_known, describe, expand, lowering_memory

_CONFIG = "TOML file of these options, or the name of a preset; flags win over it"
_TRUE, _FALSE = ("true", "1", "yes"), ("false", "0", "no")


@dataclasses.dataclass(frozen=True)
class Given:
    """What a person gave, before it is checked.

    Attributes:
      prog: the command, as it was called.
      values: by option; from the config file where no flag was given.
      flags: the options given as flags.
      config: the file, as it was named.
    """

    prog: str
    values: Mapping[str, Any]
    flags: frozenset[str]
    config: str | None

    def having(self, values: Mapping[str, Any]) -> "Given":
        """The same, with values where none was given."""
        return dataclasses.replace(self, values={**values, **self.values})

    def giving(self, values: Mapping[str, Any]) -> "Given":
        """The same, with other values of some options."""
        return dataclasses.replace(self, values={**self.values, **values})

    def build(self, groups: Groups) -> dict[str, Any]:
        """The dataclasses of some or all groups.

        Raises:
          UserError: a value is missing, of the wrong type, or refused. The message names the flag, or the file and
            its key.
        """
        found = describe(groups)
        missing = [_label(each) for each in found if each.required and each.name not in self.values]
        if missing:
            raise UserError(f"{self.prog}: {', '.join(missing)} missing; see {self.prog} --help")
        mine = {each.name: self.values[each.name] for each in found if each.name in self.values}
        try:
            return build(groups, mine, self.config or self.prog)
        except UserError as error:
            if error.field in self.flags:
                raise UserError(error.reason, field=error.field) from None
            raise


def parse(
    groups: Groups, prog: str, description: str, argv: Sequence[str] | None = None, *, config: bool = True
) -> dict[str, Any]:
    """Read options in several groups.

    Args:
      config: whether a TOML file may give them too.

    Returns:
      the dataclasses, by the names of their groups.

    Raises:
      UserError: a value is unknown, missing, of the wrong type, or refused. The message names the flag, or the file
        and its key.
    """
    return read(groups, prog, description, argv, config=config).build(groups)


def read(
    groups: Groups,
    prog: str,
    description: str,
    argv: Sequence[str] | None = None,
    *,
    config: bool = True,
    ignored: Collection[str] = (),
) -> Given:
    """Read the values of options without building their dataclasses.

    Args:
      config: whether a TOML file may give them too.
      ignored: other options that the file may have.

    Raises:
      UserError: a flag or a key is unknown, or a flag's value is of the wrong type.
    """
    found = {each.name: each for each in describe(groups)}
    parser = _parser(list(found.values()), prog, description)
    if config:
        parser.add_argument("--config", metavar="FILE", help=_CONFIG, default=argparse.SUPPRESS)
    given = vars(parser.parse_args(_separated(sys.argv[1:] if argv is None else argv, list(found.values()))))
    file = given.pop("config", None) if config else None
    values = presets.read(file) if file else {}
    values = {name: value for name, value in values.items() if name not in ignored}
    if file and (other := values.keys() - found.keys()) and presets.is_preset(file):
        raise UserError(f"--config {file}: is a preset of another command ({min(other)} is no option of {prog})")
    check_known(groups, values, str(file))
    flags = {name: _value(found[name], text) for name, text in given.items()}
    values = expand(groups, values | flags)
    memory.advise(lowering_memory(found.values(), values))
    return Given(prog, values, frozenset(flags), file)


def _separated(argv: Sequence[str], options: list[Option]) -> list[str]:
    """The words, with `true` joined to a flag that stands alone before what a command takes without a flag."""
    if not any(each.positional for each in options):
        return list(argv)
    switches = {f"--{each.name}" for each in options if each.kind is bool}
    following = [*argv[1:], ""]
    return [
        f"{word}={_TRUE[0]}" if word in switches and after.lower() not in _TRUE + _FALSE else word
        for word, after in zip(argv, following)
    ]


def peek(names: Sequence[str], argv: Sequence[str] | None = None) -> dict[str, str]:
    """Some text options of a command line, or of its config, whatever else it holds; to choose the groups by."""
    parser = CommandParser(prog="", add_help=False)
    for name in dict.fromkeys(("config", *names)):
        parser.add_argument(f"--{name}", nargs="?", default=argparse.SUPPRESS)
    given = {name: value for name, value in vars(parser.parse_known_args(argv)[0]).items() if value}
    values = {}
    if "config" in given and "config" not in names:
        values = {name: value for name, value in presets.read(given.pop("config")).items() if name in names}
    return values | given


class CommandParser(argparse.ArgumentParser):
    """Raises `UserError` where argparse prints its usage; an unknown flag is told the nearest one."""

    def __init__(self, prog: str, description: str | None = None, add_help: bool = True):
        super().__init__(prog, None, description, formatter_class=_formatter, add_help=add_help, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        see = f"see {self.prog} --help"
        if message.startswith("unrecognized arguments:"):
            word = message.split()[2]
            near = difflib.get_close_matches(word.partition("=")[0], self._option_string_actions, n=1)
            known = f", did you mean {near[0]}?" if near else ""
            what = f"unknown flag{known}" if word.startswith("-") else "no flag stands before it"
            raise UserError(f"{self.prog}: {word}: {what}; {see}")
        if lacking := re.match(r"argument (--\w+).*: expected", message):
            raise UserError(f"{lacking[1]} needs a value; {see}")
        raise UserError(f"{self.prog}: {message}; {see}")


def _formatter(prog: str) -> argparse.HelpFormatter:
    return argparse.HelpFormatter(prog, max_help_position=32, width=110)


def _parser(options: list[Option], prog: str, description: str) -> CommandParser:
    """The parser of options, in their groups; it leaves values as text and asks for none."""
    parser = CommandParser(prog, description)
    required = [each for each in options if each.required]
    words = [usage_of(each) for each in required]
    optional = [f"[{usage_of(each)}]" for each in options if each.positional and not each.required]
    parser.usage = " ".join([prog, *words, *optional, "[--flag VALUE ...]"]).replace("%", "%%")
    titles: dict[str, Any] = {}
    for each in options:
        if each.group not in titles:
            titles[each.group] = parser.add_argument_group(each.group)
        titles[each.group].add_argument(each.name if each.positional else f"--{each.name}", **_argument(each))
    return parser


def _argument(each: Option) -> dict[str, Any]:
    made: dict[str, Any] = {"help": help_of(each).replace("%", "%%"), "default": argparse.SUPPRESS}
    made |= {"metavar": _shown(each)}
    if each.many and each.metavar != "LIST":
        made |= {"nargs": "*" if each.positional else "+"}
    elif each.positional:
        made |= {"nargs": "?"}
    elif each.kind is bool:
        made |= {"nargs": "?", "const": _TRUE[0]}
    return made


def help_of(each: Option) -> str:
    """Its help with what numbers may be, and the default, or that it is required."""
    told = [each.bounds] if each.bounds else []
    if each.required:
        told.append("required")
    elif each.default is not None and each.default != ():
        told.append(f"default: {shown(each.default)}")
    elif told and each.help.endswith(")"):  # it says what happens by default
        return each.help.replace(" (default: ", f" ({each.bounds}; default: ")
    return f"{each.help} ({'; '.join(told)})" if told else each.help


def shown(value: Any) -> str:
    """A value as a person would give it."""
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _shown(each: Option) -> str:
    """What stands for the value in help."""
    if each.kind is bool:
        return "true|false"
    return "{" + ",".join(each.choices) + "}" if each.choices else each.metavar or each.name.upper()


def usage_of(each: Option) -> str:
    """How a person gives it, with a word for the value."""
    value = _shown(each) + " ..." * (each.many and each.metavar != "LIST")
    return value if each.positional else f"--{each.name} {value}"


def _label(each: Option) -> str:
    return _shown(each) if each.positional else f"--{each.name}"


def _value(each: Option, given: str | list[str]) -> Any:
    """A flag's value of the option's type.

    Raises:
      UserError: the text is of another.
    """
    if not each.many:
        return _one(each, each.kind, str(given))
    texts = given.split(",") if isinstance(given, str) else given
    if each.metavar == "LIST":
        texts = dict.fromkeys(text.strip() for text in texts)
    return tuple(_one(each, typing.get_args(each.kind)[0], text) for text in texts)


def _one(each: Option, kind: Any, text: str) -> Any:
    if each.is_path and not text:
        raise UserError("is empty; give a path", field=each.name)
    if text in each.words:
        return text
    if each.choices and text not in each.choices:
        near = difflib.get_close_matches(text, each.choices, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise UserError(f"{text}: give {', '.join(each.choices)}{hint}", field=each.name)
    if kind is bool:
        if text.lower() not in _TRUE + _FALSE:
            raise UserError(f"{text}: give true or false", field=each.name)
        return text.lower() in _TRUE
    try:
        return kind(text) if kind in (int, float) else text
    except ValueError:
        what = " or ".join(("a whole number" if kind is int else "a number", *each.words))
        raise UserError(f"{text}: give {what}", field=each.name) from None
