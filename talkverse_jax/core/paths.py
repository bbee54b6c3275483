"""Files and folders that the user names, checked before they are opened; files that are whole or not there."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from talkverse_jax.core.errors import UserError, naming


def existing_file(path: str | Path, what: str) -> Path:
    """The path of a file.

    Args:
      what: what the file should hold, for the message: "a .safetensors file".

    Raises:
      UserError: there is no such file, or it is a folder.
    """
    if os.path.isdir(path):
        raise UserError(f"{path}: is a folder; give the path of {what}")
    if not os.path.isfile(path):
        raise UserError(f"{path}: no such file; give the path of {what}")
    return Path(path)


def new_folder(path: str | Path) -> Path:
    """Make a folder for output, and those above it.

    Raises:
      UserError: it cannot be made.
    """
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = "is a file" if os.path.isfile(path) else f"cannot be made ({error.strerror})"
        raise UserError(f"{path}: {reason}; give another folder") from None
    return Path(path)


def json_text(values: Any) -> str:
    """JSON as our files have it."""
    return json.dumps(values, indent=2, ensure_ascii=False) + "\n"


def write_json(path: Path, values: Any) -> None:
    """Write a JSON file; an old one stays whole until the new one is."""
    with replacing(path) as partial:
        partial.write_text(json_text(values), encoding="utf-8")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path to write to; it becomes `path` when the block ends, and is removed when the block fails.

    Raises:
      OSError: with the name of the file that was to be.
    """
    partial = path.with_name(path.name + ".partial")
    try:
        with naming(path):
            yield partial
            os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
