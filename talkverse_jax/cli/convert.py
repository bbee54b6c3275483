"""`convert_torch_weights.py`: flags of the family's published files and of the conversion, then one call."""

import argparse
import dataclasses
import sys
import typing
from typing import Any

from talkverse_jax.cli.progress import TerminalReporter
from talkverse_jax.convert.options import ConvertOptions
from talkverse_jax.core.options import CommandParser, boolean, path

_PROG = "convert_torch_weights.py"


def main(argv: list[str] | None = None) -> None:
    """Convert.

    Raises:
      UserError: a flag or value is unknown, or cannot be used.
    """
    from talkverse_jax.pipeline import registry

    name = _family(argv) or registry.DEFAULT
    sources = registry.settings_of(name).Sources
    given = vars(_parser((sources, ConvertOptions)).parse_args(argv))
    values = {
        cls: {f.name: given[f.name] for f in dataclasses.fields(cls) if f.name in given}
        for cls in (sources, ConvertOptions)
    }
    options = ConvertOptions(**values[ConvertOptions])

    from talkverse_jax.convert.run import run

    run(registry.find(name), options, sources(**values[sources]), TerminalReporter(sys.stdout))


def _family(argv: list[str] | None) -> str | None:
    """The one that is asked for, or that lies in --output."""
    from talkverse_jax.core.errors import UserError
    from talkverse_jax.weights import manifest

    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--family")
    first.add_argument("--output")
    asked, _ = first.parse_known_args(argv)
    if asked.family or not asked.output:
        return asked.family
    try:
        return manifest.family(asked.output)
    except UserError:  # nothing there yet
        return None


def _parser(groups: tuple[type, ...]) -> argparse.ArgumentParser:
    parser = CommandParser(
        prog=_PROG,
        description="Convert published PyTorch weights into a folder for sample.py.",
        argument_default=argparse.SUPPRESS,
    )
    parser.add_argument("--family", metavar="NAME", help="of models (default: the one in --output)")
    titles: dict[str, Any] = {}
    for cls in groups:
        hints = typing.get_type_hints(cls)
        for field in dataclasses.fields(cls):
            title, metavar, text = (field.metadata[key] for key in ("group", "metavar", "help"))
            hint = next(
                one for one in (*typing.get_args(hints[field.name]), hints[field.name]) if one is not type(None)
            )
            kwargs: dict[str, Any] = {"metavar": metavar, "type": path if metavar in ("FILE", "DIR") else hint}
            if typing.get_origin(hints[field.name]) is typing.Literal:
                kwargs = {"choices": typing.get_args(hints[field.name])}
            elif hint is bool:
                kwargs = {"metavar": "true|false", "type": boolean}
            if field.default is not None:
                shown = str(field.default).lower() if hint is bool else field.default
                text += f" (default: {shown})"
            if title not in titles:
                titles[title] = parser.add_argument_group(title)
            titles[title].add_argument(f"--{field.name}", help=text.replace("%", "%%"), **kwargs)
    return parser
