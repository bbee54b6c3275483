"""What the toy world can be told. Imports no JAX."""

import dataclasses
from typing import Literal

from talkverse_jax.core.errors import UserError
from talkverse_jax.core.options import check_bounds, option

Set = Literal["train", "held_out"]
MOST = 4  # people in a picture


@dataclasses.dataclass(frozen=True)
class MakeOptions:
    """A data set of the toy world."""

    output: str = option("folder of the data set; both sets may lie in one", group="output", metavar="DIR")
    videos: int = option("how many videos", group="world", metavar="N", default=100, least=1)
    seed: int = option("seed of everything", group="world", metavar="N", default=0, least=0)
    set: Set = option("which people and sentences; the sets share none", group="world", default="train")
    seconds: float = option(
        "length of all videos; 0: drawn for each, mostly 9 to 12, some 5 to 6",
        group="world",
        metavar="S",
        default=0.0,
    )
    short_share: float = option(
        "share of the videos of 5 to 6 seconds, where lengths are drawn",
        group="world",
        metavar="X",
        default=0.2,
        least=0,
        most=1,
    )
    square: bool = option(
        "128x128 pixels only, so that one program is compiled; otherwise 3 in 10 have another shape",
        group="world",
        default=False,
    )
    people: tuple[int, ...] = option(
        "how many people are in a picture, 1 to 4; of several numbers one is drawn for each video. 1 alone is the "
        "world of single persons; all else are pictures of 192x128 and, from three people on, 256x128 pixels, with a "
        "sound for each person",
        group="world",
        metavar="N",
        default=(1,),
    )
    workers: int = option("processes; 0: one for each core", group="speed", metavar="N", default=0, least=0)

    def __post_init__(self):
        check_bounds(self)
        if self.seconds and not 0.5 <= self.seconds <= 600:
            raise UserError(f"{self.seconds:g}: give 0.5 to 600, or 0 for lengths that are drawn", field="seconds")
        if not self.people or not all(1 <= number <= MOST for number in self.people):
            given = " ".join(map(str, self.people))
            raise UserError(f"{given}: give 1 to {MOST}, or several such numbers", field="people")
        if self.several and self.square:
            raise UserError("of several people pictures are never square; leave out --square", field="square")

    @property
    def several(self) -> bool:
        """Whether more than one person may be in a picture."""
        return max(self.people) > 1
