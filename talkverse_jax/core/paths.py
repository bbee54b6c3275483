"""Files and folders that the user names, checked before they are opened."""

import os
from pathlib import Path

from talkverse_jax.core.errors import UserError


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
