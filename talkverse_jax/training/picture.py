"""A picture of the losses, `losses.png`: for who has no TensorBoard at hand. It looks as contact sheets do."""

import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from talkverse_jax.core.paths import replacing
from talkverse_jax.training.metrics import FILE, HELD_OUT, RANGES

NAME = "losses.png"
_WIDTH, _MARGIN, _AXIS, _KEY = 1320, 40, 62, 190  # pixels; of the labels left and of the names right of a panel
_HEAD, _PANEL, _FOOT = 128, 330, 64
_PAPER, _INK, _GREY, _LINE = "#fbfaf7", "#22262b", "#7d838b", "#dcdad3"
_PALE, _STRONG, _OTHER = "#a9c6d3", "#2f6f8a", "#c2602c"
_BY_NOISE = ("#9fc4b5", "#5b9fae", "#2f6f8a", "#6a5a92", "#3a2f4f")  # little noise first
_SCALE = 2  # is drawn so much larger, for smooth lines
_SMOOTH = 40  # parts of the run that a mean is over


class Curve(NamedTuple):
    """Losses by step.

    Attributes:
      points: whether each is marked: there are few.
    """

    name: str
    steps: np.ndarray
    losses: np.ndarray
    colour: str
    points: bool = False


def draw_losses(folder: Path) -> Path | None:
    """Draw what `metrics.jsonl` and `held_out.jsonl` of a run say; None where they say nothing yet."""
    lines, held = _read(folder / FILE), _read(folder / HELD_OUT)
    raw = _curve(lines, "loss", "each time", _PALE)
    if not len(raw.steps):
        return None
    of_held = _curve(held, "held_out/loss", "held out", _OTHER)._replace(points=True)
    parts = [_curve(lines, f"loss_by_noise/{at.name}", at.name, c) for at, c in zip(RANGES, _BY_NOISE, strict=True)]
    last = f"step {raw.steps[-1]:,}, loss {_smooth(raw).losses[-1]:.4g}"
    if len(of_held.steps):
        last += f", held out {of_held.losses[-1]:.4g} at step {of_held.steps[-1]:,}"
    picture = Image.new("RGB", (_WIDTH * _SCALE, (_HEAD + 2 * (_PANEL + _FOOT)) * _SCALE), _PAPER)
    draw = ImageDraw.Draw(picture)
    _text(draw, (_MARGIN, _MARGIN - 6), folder.resolve().name, 32, _INK)
    _text(draw, (_MARGIN, _MARGIN + 38), last, 18, _GREY)
    mean = _smooth(raw)._replace(name="mean", colour=_STRONG)
    _panel(draw, _HEAD, "loss by step", [raw, mean, of_held])
    _panel(draw, _HEAD + _PANEL + _FOOT, "loss by step, at timesteps", [_smooth(each) for each in reversed(parts)])
    path = folder / NAME
    with replacing(path) as partial:
        picture.reduce(_SCALE).save(partial, format="png")
    return path


def _read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def _curve(lines: Iterable[dict[str, Any]], key: str, name: str, colour: str) -> Curve:
    found = [(line["step"], line[key]) for line in lines if math.isfinite(line.get(key, math.nan))]
    steps, losses = zip(*found) if found else ((), ())
    return Curve(name, np.array(steps, int), np.array(losses, float), colour)


def _smooth(curve: Curve) -> Curve:
    """The mean over each point and those before it."""
    width = max(1, len(curve.steps) // _SMOOTH)
    total = np.cumsum(np.concatenate([[0.0], curve.losses]))
    start = np.maximum(np.arange(len(curve.steps)) - width + 1, 0)
    end = np.arange(len(curve.steps)) + 1
    return curve._replace(losses=(total[end] - total[start]) / (end - start))


def _panel(draw: ImageDraw.ImageDraw, top: int, title: str, curves: Sequence[Curve]) -> None:
    """Curves over a grid, their names at their ends."""
    curves = [curve for curve in curves if len(curve.steps)]
    if not curves:
        return
    left, right, head = _MARGIN + _AXIS, _WIDTH - _MARGIN - _KEY, top + 34
    every = np.concatenate([curve.losses for curve in curves])
    high = _round_up(max(float(np.percentile(every, 99.5)), 1e-9) * 1.02)
    last = max(int(curve.steps[-1]) for curve in curves)

    def place(step: float, loss: float) -> tuple[float, float]:
        return left + (right - left) * step / last, top + _PANEL - (_PANEL - 34) * min(loss / high, 1)

    _text(draw, (_MARGIN, top), title, 18, _INK)
    for loss in np.linspace(0, high, 5):
        _, y = place(0, loss)
        _line(draw, [(left, y), (right, y)], _LINE, 1)
        _text(draw, (left - 10, y), f"{loss:.3g}", 15, _GREY, "rm")
    for step in range(0, last + 1, max(1, round(_round_up(last / 8, (1, 2, 5, 10))))):
        x, y = place(step, 0)
        _line(draw, [(x, y), (x, y + 5)], _GREY, 1)
        _text(draw, (x, y + 9), f"{step:,}", 15, _GREY, "mt")
    for curve in curves:
        points = [place(step, loss) for step, loss in zip(curve.steps, curve.losses)]
        _line(draw, points, curve.colour, 1 if curve.colour == _PALE else 2.5)
        if curve.points or len(points) == 1:
            for x, y in points:
                box = [(x - 4) * _SCALE, (y - 4) * _SCALE, (x + 4) * _SCALE, (y + 4) * _SCALE]
                draw.ellipse(box, curve.colour)
    _names(draw, right + 14, head, top + _PANEL, [(place(c.steps[-1], c.losses[-1])[1], c) for c in curves])


def _names(draw: ImageDraw.ImageDraw, x: float, top: float, foot: float, ends: list[tuple[float, Curve]]) -> None:
    """A name and the last loss beside the end of each curve, moved apart where they would overlap."""
    ends, step = sorted(ends, key=lambda end: end[0]), 22
    foot -= step // 2
    y = top
    for number, (wanted, curve) in enumerate(ends):
        y = min(max(y, wanted), foot - step * (len(ends) - 1 - number))
        text = f"{curve.name}  {curve.losses[-1]:.3g}" if curve.colour != _PALE else curve.name
        _text(draw, (x, y), text, 16, curve.colour, "lm")
        y += step


def _round_up(value: float, times: Sequence[float] = (1, 1.2, 1.6, 2, 2.4, 3.2, 4, 6, 8, 10)) -> float:
    """The next of these times a power of ten; by default a quarter of it is round too."""
    power = 10 ** math.floor(math.log10(value))
    return next(each * power for each in times if each * power >= value * (1 - 1e-9))


def _line(draw: ImageDraw.ImageDraw, points: Sequence[tuple[float, float]], colour: str, width: float) -> None:
    if len(points) > 1:
        scaled = [(x * _SCALE, y * _SCALE) for x, y in points]
        draw.line(scaled, colour, round(width * _SCALE), joint="curve")


def _text(
    draw: ImageDraw.ImageDraw, at: tuple[float, float], text: str, size: int, colour: str, anchor: str = "la"
) -> None:
    font = ImageFont.load_default(size * _SCALE)
    draw.text((at[0] * _SCALE, at[1] * _SCALE), text, colour, font, anchor=anchor)
