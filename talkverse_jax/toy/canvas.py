"""Painting with smooth edges: shapes are drawn too large through soft masks, and scaled down."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from talkverse_jax.toy.person import Colour

Points = Float[np.ndarray, "_ 2"]  # a closed curve


class Canvas:
    """A picture with transparency, `height` x `width` units, `scale` pixels a unit.

    Where nothing was painted it is transparent; `ground` is the colour that shines through at soft edges.
    """

    def __init__(self, height: float, width: float, scale: int, ground: Colour):
        self.scale = scale
        size = round(width * scale), round(height * scale)
        self.colours, self.alpha = Image.new("RGB", size, ground), Image.new("L", size)

    def mask(self, *shapes: Points, blur: float = 0) -> Image.Image:
        """Filled closed curves, their edges blurred by `blur` units."""
        mask = Image.new("L", self.alpha.size)
        draw = ImageDraw.Draw(mask)
        for shape in shapes:
            draw.polygon([(x, y) for x, y in np.asarray(shape) * self.scale], fill=255)
        return mask.filter(ImageFilter.GaussianBlur(blur * self.scale)) if blur else mask

    def paint(self, colour: Colour, mask: Image.Image, opacity: float = 1.0, within: Image.Image | None = None) -> None:
        """Lay the colour on where the mask is, and only inside the mask `within`."""
        if within is not None:
            mask = ImageChops.multiply(mask, within)
        if opacity < 1:
            mask = mask.point([round(value * opacity) for value in range(256)])
        self.colours.paste(colour, mask=mask)
        self.alpha = ImageChops.screen(self.alpha, mask)

    def finished(self, scale: int) -> Image.Image:
        """The picture (RGBA) with `scale` pixels a unit, which divides the canvas's own."""
        image = self.colours.copy()
        image.putalpha(self.alpha)
        return image.reduce(self.scale // scale)


def ellipse(x: float, y: float, rx: float, ry: float) -> Points:
    turn = np.linspace(0, 2 * np.pi, 72, endpoint=False)
    return np.stack([x + rx * np.cos(turn), y + ry * np.sin(turn)], axis=1)


def curve(points: Sequence[tuple[float, float]]) -> Points:
    """A smooth closed curve through the points (Catmull-Rom)."""
    p = np.array(points, float)
    before, after, last = np.roll(p, 1, 0), np.roll(p, -1, 0), np.roll(p, -2, 0)
    t = np.linspace(0, 1, 12, endpoint=False)[None, :, None]
    a, b, c, d = (q[:, None] for q in (before, p, after, last))
    smooth = 0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3)
    return smooth.reshape(-1, 2)


def symmetric(points: Sequence[tuple[float, float]], middle: float = 64.0) -> Points:
    """A smooth closed curve: the points down its right side as (distance from the middle, y), and their mirror."""
    right = [(middle + x, y) for x, y in points]
    left = [(middle - x, y) for x, y in reversed(points) if x > 0]
    return curve(right + left)


def mirrored(shape: Points, middle: float = 64.0) -> Points:
    return np.stack([2 * middle - shape[:, 0], shape[:, 1]], axis=1)


def tinted(colour: Colour, factor: float) -> Colour:
    """Darker below 1; above, nearer to white."""
    if factor <= 1:
        red, green, blue = (round(value * factor) for value in colour)
    else:
        red, green, blue = (round(255 - (255 - value) / factor) for value in colour)
    return red, green, blue


def mixed(one: Colour, other: Colour, share: float) -> Colour:
    """`share` of the other."""
    red, green, blue = (round(a * (1 - share) + b * share) for a, b in zip(one, other))
    return red, green, blue
