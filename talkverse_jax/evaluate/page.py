"""The measures as a picture: for each video a strip of frames, its mouth over its sound, and what drifts."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float
from PIL import Image, ImageDraw, ImageFont

from talkverse_jax.core.paths import replacing
from talkverse_jax.evaluate.measures import Measured
from talkverse_jax.evaluate.report import Record
from talkverse_jax.evaluate.sound import FPS

_WIDTH, _MARGIN, _GAP = 1320, 40, 8
_MOST = 12  # videos a page
_PLOT, _SECONDS = 110, 10.0  # height of a plot, seconds that the mouth is shown over its sound
_LONG = 20.0  # seconds from which on drift is worth a plot
_PAPER, _INK, _GREY, _LINE = "#fbfaf7", "#22262b", "#7d838b", "#dcdad3"
_SOUND, _MOUTH, _OTHER = "#a9c6d3", "#c2402f", "#6f8a2f"


def draw_page(videos: Sequence[Measured], records: Sequence[Record], path: Path) -> None:
    """Write a PNG of the first dozen videos."""
    parts = [_video(video, figures) for video, figures in zip(videos[:_MOST], records)]
    page = Image.new("RGB", (_WIDTH, sum(part.height for part in parts) + 2 * _MARGIN + 40), _PAPER)
    draw = ImageDraw.Draw(page)
    many = f"the first {len(parts)} of {len(videos)} videos" if len(videos) > len(parts) else "every video"
    draw.text((_MARGIN, _MARGIN - 8), f"Mouth (red) over sound (blue), {many}", _INK, _font(22))
    top = _MARGIN + 40
    for part in parts:
        page.paste(part, (0, top))
        top += part.height
    with replacing(path) as partial:
        page.save(partial, "PNG")


def _video(video: Measured, figures: Record) -> Image.Image:
    strip = _strip(video)
    long = len(video.opening) / FPS >= _LONG
    part = Image.new("RGB", (_WIDTH, 34 + strip.height + (_PLOT + 30) * (2 if long else 1)), _PAPER)
    draw = ImageDraw.Draw(part)
    draw.text((_MARGIN, 4), _line(figures), _INK, _font(15))
    part.paste(strip, (_MARGIN, 28))
    top = 34 + strip.height
    shown = slice(round(_SECONDS * FPS))
    opening = video.opening[shown] / max(np.percentile(video.opening, 99), 1.0)
    _plot(draw, top, [(video.loud[shown], _SOUND, True), (opening, _MOUTH, False)], "", 1 / FPS)
    if long:
        top += _PLOT + 30
        second = lambda values: values[: len(values) // FPS * FPS].reshape(-1, FPS).mean(1)  # noqa: E731
        colour = video.colour.mean(1) / 255
        curves = [(second(video.identity), _MOUTH, False), (second(colour), _GREY, False)]
        curves.append((second(video.sharpness) / (2 * max(video.sharpness[:FPS].mean(), 1e-6)), _OTHER, False))
        _plot(draw, top, curves, "identity (red), mean colour (grey), sharpness (green, half at the start)", 1.0)
    return part


def _line(figures: Record) -> str:
    one = figures["all"]
    own = "not told" if one["correlation"] is None else f"{one['correlation']:.2f}"
    lag = "none" if one["lag"] is None else f"{one['lag']:+d}"
    other = "" if one["correlation_swapped"] is None else f", with another's sound {one['correlation_swapped']:.2f}"
    return (
        f"{figures['video']}: mouth and sound {own}, lag {lag}{other}; "
        f"identity {one['identity']:.2f}; colour moves {figures['drift']['colour']:.1f}"
    )


def _strip(video: Measured) -> Image.Image:
    count, rows, columns = video.strip.shape[:3]
    width = (_WIDTH - 2 * _MARGIN - (count - 1) * _GAP) // count
    height = round(width * rows / columns)
    strip = Image.new("RGB", (_WIDTH - 2 * _MARGIN, height), _PAPER)
    for place, frame in enumerate(video.strip):
        strip.paste(
            Image.fromarray(frame).resize((width, height), Image.Resampling.LANCZOS), (place * (width + _GAP), 0)
        )
    return strip


def _plot(
    draw: ImageDraw.ImageDraw,
    top: int,
    curves: Sequence[tuple[Float[np.ndarray, " n"], str, bool]],
    legend: str,
    step: float,
) -> None:
    """Curves (values, colour, filled) from 0 to 1, a value every `step` seconds."""
    foot, across = top + _PLOT, _WIDTH - 2 * _MARGIN
    count = max(len(values) for values, *_ in curves)
    for values, colour, filled in curves:
        x = _MARGIN + across * np.arange(len(values)) / max(count - 1, 1)
        points = list(zip(x.tolist(), (foot - _PLOT * np.clip(values, 0, 1)).tolist()))
        if filled:
            draw.polygon([(points[0][0], foot), *points, (points[-1][0], foot)], fill=colour)
        else:
            draw.line(points, colour, width=2, joint="curve")
    draw.line((_MARGIN, foot, _WIDTH - _MARGIN, foot), _LINE)
    draw.text((_MARGIN, foot - 6), legend, _GREY, _font(12), anchor="ls")
    every = max(1, round(count * step / 10))
    for tick in range(0, int(count * step) + 1, every):
        x = _MARGIN + across * tick / step / max(count - 1, 1)
        if x <= _WIDTH - _MARGIN:
            draw.line((x, foot, x, foot + 4), _GREY)
            draw.text((x, foot + 6), str(tick) if tick else "0 s", _GREY, _font(12), anchor="lt")


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
