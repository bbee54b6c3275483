"""What a live video can be told, whatever the family. Imports no JAX."""

import dataclasses
from typing import Literal

from talkverse_jax.core.errors import UserError
from talkverse_jax.core.options import check_bounds, option

MICROPHONE, PIPE = "microphone", "-"

WhenBehind = Literal["wait", "skip"]


@dataclasses.dataclass(frozen=True)
class Keeping:
    """How a live video keeps up with its sound."""

    when_behind: WhenBehind = option(
        "what to do when more than --most_behind seconds of sound wait: wait (nothing is lost, the picture comes later "
        "and later) or skip (the oldest sound is left out, with a jump)",
        group="live",
        default="wait",
    )
    most_behind: float = option(
        "seconds of sound that may wait beyond the next clip's before that is said, and --when_behind holds",
        group="live",
        metavar="S",
        default=1.0,
        above=0,
    )
    patience: float = option(
        "seconds that sound may be late; then silence takes its place and the face goes on",
        group="live",
        metavar="S",
        default=0.3,
        least=0,
    )
    report_every: float = option(
        "seconds between two lines about speed, latency and memory",
        group="live",
        metavar="S",
        default=10.0,
        above=0,
    )

    def __post_init__(self):
        check_bounds(self)


@dataclasses.dataclass(frozen=True)
class StreamOptions:
    """A live video's picture, sound and output."""

    image: str = option("picture of the person", group="input", metavar="FILE")
    sound: str = option(
        "-: 16-bit mono samples at --rate on standard input, or a wav; a file, played at its own speed; microphone, or "
        "microphone:FORMAT:NAME for one of FFmpeg's devices",
        group="input",
        metavar="SOUND",
        default=PIPE,
    )
    rate: int = option("of bare samples, in Hz", group="input", metavar="N", default=16_000, least=8_000, most=192_000)
    output: str = option(
        "where the video goes, as it is made: a file, or - for standard output",
        group="output",
        metavar="OUT",
        default="live.mp4",
    )
    format: Literal["mp4", "rgb24"] = option(
        "mp4: in fragments, with its sound; rgb24: bare frames of three bytes a pixel, 25 a second",
        group="output",
        default="mp4",
    )
    report: str | None = option(
        "file that gets each report as a line of JSON", group="output", metavar="FILE", default=None
    )

    def __post_init__(self):
        check_bounds(self)
        if not self.sound:
            raise UserError("is empty; give a file, - or microphone", field="sound")
