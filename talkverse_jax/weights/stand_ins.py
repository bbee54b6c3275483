"""What lies in a file's place when it was not fetched: a pointer, a web page, nothing. Told from the first bytes."""

import re
from pathlib import Path

from talkverse_jax.core.errors import UserError

_POINTER = b"version https://git-lfs"
_PAGES = (b"<!doctype", b"<html", b"<head", b"<?xml")
_BYTES = 1024


def refuse(path: str | Path) -> None:
    """Make sure that a file is one.

    Raises:
      UserError: it stands in for one, with how the file itself is fetched.
      OSError: it cannot be read.
    """
    with Path(path).open("rb") as file:
        first = file.read(_BYTES)
    if not first:
        raise UserError(f"{path}: is empty; download it again")
    if first.startswith(_POINTER):
        found = re.search(rb"^size (\d{1,18})$", first, re.MULTILINE)
        size = f" of {int(found[1]):,} bytes" if found else ""
        raise UserError(
            f"{path}: is a Git LFS pointer to a file{size}, not the file; run `git lfs pull` in its folder, or "
            "download the file itself"
        )
    if first.lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith(_PAGES):
        raise UserError(
            f"{path}: is a web page, not the file (one that asks to log in, or tells of an error); download it again"
        )
