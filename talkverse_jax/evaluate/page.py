"""The measures as a picture: for each video a strip of frames, its mouth over its sound, and what drifts."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from talkverse_jax.evaluate.measures import Measured
from talkverse_jax.evaluate.plot import (
    ACROSS,
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

_MOST = 12  # videos a page
_SECONDS = 10.0  # that the mouth is shown over its sound
_LONG = 20.0  # seconds from which on drift is worth a plot
_OTHER = "#6f8a2f"


def draw_page(videos: Sequence[Measured], records: Sequence[Record], path: Path) -> None:
    """Write a PNG of the first dozen videos."""
    parts = [_video(video, figures) for video, figures in zip(videos[:_MOST], records)]
    many = f"the first {len(parts)} of {len(videos)} videos" if len(videos) > len(parts) else "every video"
    write_page(parts, f"Mouth (red) over sound (blue), {many}", path)


def _video(video: Measured, figures: Record) -> Image.Image:
    frames = strip(video.strip, WIDTH - 2 * MARGIN)
    long = len(video.opening) / FPS >= _LONG
    part = Image.new("RGB", (WIDTH, 34 + frames.height + (PLOT + 30) * (2 if long else 1)), PAPER)
    draw = ImageDraw.Draw(part)
    draw.text((MARGIN, 4), _line(figures), INK, font(15))
    part.paste(frames, (MARGIN, 28))
    top = 34 + frames.height
    shown = slice(round(_SECONDS * FPS))
    opening = video.opening[shown] / max(np.percentile(video.opening, 99), 1.0)
    plot(draw, ACROSS, top, [(video.loud[shown], SOUND, True), (opening, MOUTH, False)], "", 1 / FPS)
    if long:
        top += PLOT + 30
        second = lambda values: values[: len(values) // FPS * FPS].reshape(-1, FPS).mean(1)  # noqa: E731
        colour = video.colour.mean(1) / 255
        curves = [(second(video.identity), MOUTH, False), (second(colour), GREY, False)]
        curves.append((second(video.sharpness) / (2 * max(video.sharpness[:FPS].mean(), 1e-6)), _OTHER, False))
        plot(draw, ACROSS, top, curves, "identity (red), mean colour (grey), sharpness (green, half at the start)", 1.0)
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
