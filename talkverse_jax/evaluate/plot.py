"""What pages of measures are drawn with: strips of frames, and curves over time."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw, ImageFont

from talkverse_jax.core.paths import replacing

WIDTH, MARGIN, GAP = 1320, 40, 8
ACROSS = MARGIN, WIDTH - 2 * MARGIN  # where a plot as wide as the page begins, and its width
PLOT = 110  # height of a plot
PAPER, INK, GREY, LINE = "#fbfaf7", "#22262b", "#7d838b", "#dcdad3"
SOUND, MOUTH = "#a9c6d3", "#c2402f"

_TICK = 120  # pixels between two marks of seconds, at least


def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def strip(frames: UInt8[np.ndarray, "n H W 3"], width: int) -> Image.Image:
    """The frames side by side, of that width together."""
    count, rows, columns = frames.shape[:3]
    each = (width - (count - 1) * GAP) // count
    height = round(each * rows / columns)
    together = Image.new("RGB", (width, height), PAPER)
    for place, frame in enumerate(frames):
        scaled = Image.fromarray(frame).resize((each, height), Image.Resampling.LANCZOS)
        together.paste(scaled, (place * (each + GAP), 0))
    return together


def write_page(parts: Sequence[Image.Image], title: str, path: Path) -> None:
    """A PNG of the parts, one below the other under a title."""
    page = Image.new("RGB", (WIDTH, sum(part.height for part in parts) + 2 * MARGIN + 40), PAPER)
    ImageDraw.Draw(page).text((MARGIN, MARGIN - 8), title, INK, font(22))
    top = MARGIN + 40
    for part in parts:
        page.paste(part, (0, top))
        top += part.height
    with replacing(path) as partial:
        page.save(partial, "PNG")


def plot(
    draw: ImageDraw.ImageDraw,
    across: tuple[int, int],
    top: int,
    curves: Sequence[tuple[Float[np.ndarray, " n"], str, bool]],
    legend: str,
    step: float,
) -> None:
    """Curves (values, colour, filled) from 0 to 1, a value every `step` seconds.

    Args:
      across: where the plot begins, and its width, in pixels.
    """
    left, width = across
    foot, count = top + PLOT, max(len(values) for values, *_ in curves)
    for values, colour, filled in curves:
        x = left + width * np.arange(len(values)) / max(count - 1, 1)
        points = list(zip(x.tolist(), (foot - PLOT * np.clip(values, 0, 1)).tolist()))
        if filled:
            draw.polygon([(points[0][0], foot), *points, (points[-1][0], foot)], fill=colour)
        else:
            draw.line(points, colour, width=2, joint="curve")
    draw.line((left, foot, left + width, foot), LINE)
    draw.text((left, foot - 6), legend, GREY, font(12), anchor="ls")
    every = max(1, round(count * step / max(1, width // _TICK)))
    for tick in range(0, int(count * step) + 1, every):
        x = left + width * tick / step / max(count - 1, 1)
        if x <= left + width:
            draw.line((x, foot, x, foot + 4), GREY)
            draw.text((x, foot + 6), str(tick) if tick else "0 s", GREY, font(12), anchor="lt")
