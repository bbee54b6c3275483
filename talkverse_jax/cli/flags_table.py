"""Write docs/flags.md: `python -m talkverse_jax.cli.flags_table > docs/flags.md`."""

import importlib
from collections.abc import Iterator

from talkverse_jax.cli.flags import help_of, usage_of
from talkverse_jax.cli.main import COMMANDS, PROG
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
    titles: dict[str, list[Option]] = {}
    for each in describe(module.groups(registry.DEFAULT)):
        titles.setdefault(each.group, []).append(each)
    for title, options in titles.items():
        rows = [f"| {_cell(f'`{usage_of(each)}`')} | {_cell(help_of(each))} |" for each in options]
        yield "\n".join([f"| {title} | |", "|---|---|", *rows, ""])


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    print(page(), end="")
