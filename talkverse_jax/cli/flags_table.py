"""Write docs/flags.md: `python -m talkverse_jax.cli.flags_table > docs/flags.md`."""

import importlib
from collections.abc import Iterator, Sequence
from types import ModuleType

from talkverse_jax.cli.flags import help_of, usage_of
from talkverse_jax.cli.main import COMMANDS, PROG
from talkverse_jax.core.errors import UserError
from talkverse_jax.core.options import Option, describe
from talkverse_jax.pipeline import registry

_HEAD = f"""\
# Flags

Written by `python -m talkverse_jax.cli.flags_table > docs/flags.md`, from the options in the code. `{PROG} COMMAND
--help` shows the same.

Where a command takes `--config`, it reads the same names from a TOML file (`sample_steps = 12`) or from a preset in
`configs/`, such as `--config sample_480`. Flags win over the file. In it a relative path starts from the current
folder, and one that begins with `{{here}}/` from the folder of the file.
"""


def page() -> str:
    """The page, in Markdown."""
    return "\n".join([_HEAD, *(part for name in COMMANDS for part in _command(name))])


def _command(name: str) -> Iterator[str]:
    module = importlib.import_module(COMMANDS[name][0])
    yield f"## {name}\n\n{' '.join((module.__doc__ or '').split())}\n"
    known = describe(module.groups(registry.DEFAULT))
    yield from _tables(known)
    for family in registry.names():
        options = _of_family(module, family)
        if own := [each for each in options if _row(each) not in set(map(_row, known))]:
            names = {each.name for each in options}
            gone = ", ".join(f"`--{each.name}`" for each in known if each.name not in names)
            yield f"### {name}, of {family}\n\nAs above, but for these{f'; there is no {gone}' if gone else ''}.\n"
            yield from _tables(own)


def _of_family(module: ModuleType, family: str) -> list[Option]:
    """None where the command is not for the family."""
    try:
        return describe(module.groups(family))
    except UserError:
        return []


def _tables(options: Sequence[Option]) -> Iterator[str]:
    titles: dict[str, list[Option]] = {}
    for each in options:
        titles.setdefault(each.group, []).append(each)
    for title, options in titles.items():
        yield "\n".join([f"| {title} | |", "|---|---|", *map(_row, options), ""])


def _row(option: Option) -> str:
    return f"| {_cell(f'`{usage_of(option)}`')} | {_cell(help_of(option))} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    print(page(), end="")
