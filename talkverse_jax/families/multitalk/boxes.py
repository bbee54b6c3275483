"""Where the people of a picture are, as a person gives it. Imports no JAX."""

import re
from collections.abc import Sequence
from typing import NamedTuple

from talkverse_jax.core.errors import UserError, brief
from talkverse_jax.core.options import NO_FILE

_BOX = re.compile(",".join([r"\s*(-?\d{1,9})\s*"] * 4))


class Box(NamedTuple):
    """Rows top .. bottom - 1 and columns left .. right - 1 of a picture, in its pixels."""

    top: int
    left: int
    bottom: int
    right: int

    def __str__(self) -> str:
        return ",".join(map(str, self))


def parse(text: str) -> Box:
    """The box that `TOP,LEFT,BOTTOM,RIGHT` names.

    Raises:
      UserError: it is none, or empty.
    """
    match = _BOX.fullmatch(text)
    if match is None:
        raise UserError(f"{brief(text)}: give top,left,bottom,right in pixels, such as 160,120,1280,1080", field="bbox")
    box = Box(*map(int, match.groups()))
    if box.top >= box.bottom or box.left >= box.right:
        raise UserError(f"{box}: is empty; give top,left,bottom,right in this order", field="bbox")
    return box


def check_people(audio: Sequence[str], bbox: Sequence[str], mask: Sequence[str]) -> None:
    """Check that somebody speaks, and that whoever has a place has one.

    Raises:
      UserError: somebody has none or two, or a box is none.
    """
    if all(path == NO_FILE for path in audio):
        raise UserError("nobody speaks; give at least one sound", field="audio")
    for name, places in (("bbox", bbox), ("mask", mask)):
        if places and len(places) != len(audio):
            raise UserError(
                f"{len(places)} given, but --audio names {len(audio)}; give one for each person ({NO_FILE} for one "
                "without)",
                field=name,
            )
    for number, places in enumerate(zip(bbox or [NO_FILE] * len(audio), mask or [NO_FILE] * len(audio)), 1):
        box, picture = places
        if box != NO_FILE:
            parse(box)
        if box == picture == NO_FILE and (bbox or mask):
            field = "bbox" if bbox else "mask"
            raise UserError(f"person {number} has neither box nor mask; give one", field=field)
        if NO_FILE not in places:
            raise UserError(f"person {number} has a box and a mask; give {NO_FILE} for one of them", field="mask")
