"""Ids that are to be the names of files: on any disk, and as a person reads them."""

import math
import unicodedata
from typing import Any

from talkverse_jax.core.errors import UserError, brief
from talkverse_jax.core.paths import same_name

_LONGEST = 200  # bytes
_UNSEEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}  # Unicode's categories: controls, direction marks, halves of pairs, line ends


def check_id(given: Any) -> str:
    """An id of a list as the name of its files.

    Raises:
      UserError: it is no text and no number, holds what no name can hold or nobody sees, or is too long.
    """
    if isinstance(given, bool) or not isinstance(given, (str, int, float)):
        raise UserError(f"id {brief(given)}: no name for files; give a text or a number")
    if isinstance(given, float) and not math.isfinite(given):
        raise UserError(f"id {given}: no name for files; give a text or a number that is finite")
    name = str(given)
    if fault := _fault(name):
        raise UserError(f"id {brief(given)}: no name for files; {fault}")
    return name


def _fault(name: str) -> str | None:
    if unseen := next((letter for letter in name if unicodedata.category(letter) in _UNSEEN), None):
        called = unicodedata.name(unseen, "a control character")
        return f"it has U+{ord(unseen):04X} ({called}), which nobody sees; leave that out"
    if not name or name.startswith(".") or "/" in name or "\\" in name:
        return "leave out / and a dot in front"
    if name != name.strip(" ") or name.endswith("."):
        return "leave out the spaces around it and the dot at its end, which some disks drop"
    if len(name.encode()) > _LONGEST:
        return f"shorten it to {_LONGEST} bytes"
    return None


def folded(name: str) -> str:
    """The form in which disks that know no case compare names."""
    return same_name(same_name(name).casefold())
