"""The measures of several people in one picture, as a picture: the mouth of each over their own sound, below them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw

from talkverse_jax.evaluate.measures import Measured, Talk
from talkverse_jax.evaluate.plot import (
    GAP,
    GREY,
    INK,
    MARGIN,
    MOUTH,
    PAPER,
    PLOT,
    SOUND,
    WIDTH,
    font,
    plot,
    strip,
    write_page,
)
from talkverse_jax.evaluate.report import Record
from talkverse_jax.evaluate.sound import FPS

_MOST = 8  # videos a page
_WHOLE = 3  # whole frames of each
_SECONDS = 10.0  # that a mouth is shown over its sound
_HEAD, _LINE, _FOOT = 30, 22, 34  # heights of a video's name, of a person's line, and below a plot


@dataclass(frozen=True, eq=False)
class Pictured:
    """A video whose people are told apart.

    Attributes:
      whole: evenly spaced frames.
      persons: what was measured of each, in their order.
      records: the figures of each.
    """

    name: str
    whole: UInt8[np.ndarray, "3 H W 3"]
    persons: tuple[Measured, ...]
    records: tuple[Record, ...]

    @classmethod
    def of(cls, talk: Talk, persons: tuple[Measured, ...], records: tuple[Record, ...]) -> "Pictured":
        """Of a video that was read."""
        chosen = np.linspace(0, len(talk.frames) - 1, _WHOLE).astype(int)
        return cls(talk.name, talk.frames[chosen], persons, records)


def draw_people(videos: Sequence[Pictured], path: Path) -> None:
    """Write a PNG of the first videos."""
    parts = [_video(video) for video in videos[:_MOST]]
    write_page(parts, "Each person's mouth (red) over their own sound (blue)", path)


def _video(video: Pictured) -> Image.Image:
    across = WIDTH - 2 * MARGIN
    column = (across - (len(video.persons) - 1) * 2 * GAP) // len(video.persons)
    whole = strip(video.whole, across)
    faces = [strip(person.strip[::3], column) for person in video.persons]
    top = _HEAD + whole.height + GAP
    below = top + max(each.height for each in faces) + _LINE
    part = Image.new("RGB", (WIDTH, below + PLOT + _FOOT), PAPER)
    draw = ImageDraw.Draw(part)
    draw.text((MARGIN, 4), video.name, INK, font(15))
    part.paste(whole, (MARGIN, _HEAD))
    shown = slice(round(_SECONDS * FPS))
    widest = max(float(np.percentile(person.opening, 99)) for person in video.persons)
    for number, (person, figures, strips) in enumerate(zip(video.persons, video.records, faces)):
        left = MARGIN + number * (column + 2 * GAP)
        part.paste(strips, (left, top))
        draw.text((left, below - _LINE + 3), _told(figures), GREY, font(13))
        curves = [(person.loud[shown], SOUND, True), (person.opening[shown] / max(widest, 1.0), MOUTH, False)]
        plot(draw, (left, column), below, curves, "", 1 / FPS)
    return part


def _told(figures: Record) -> str:
    one = figures["all"]
    own = "says little or nothing" if one["correlation"] is None else f"own sound {one['correlation']:.2f}"
    other = "" if one["correlation_swapped"] is None else f", another's {one['correlation_swapped']:.2f}"
    quiet = figures["silence"]
    return own + other + ("" if quiet is None else f"; in silence {100 * quiet['movement']:.0f}%")
