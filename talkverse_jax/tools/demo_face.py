"""Draws assets/face.png, the demo's picture: `python -m talkverse_jax.tools.demo_face OUT.png`.

Shapes are drawn four times too large, shaded through blurred masks and scaled down, which smooths every edge.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

SIZE = 512
_SCALE = 4

Colour = tuple[int, ...]
Points = list[tuple[float, float]]  # a closed curve, in 512ths of the picture

_SKIN = (236, 188, 158)
_HAIR = (74, 47, 36)
_LIPS = (196, 96, 92)
_JUMPER = (58, 110, 128)


class _Canvas:
    """An RGB picture of 512x512 units, painted through soft masks."""

    def __init__(self, top: Colour, bottom: Colour):
        rows = np.linspace(0, 1, SIZE * _SCALE)[:, None, None]
        sky = np.array(top) * (1 - rows) + np.array(bottom) * rows
        self.image = Image.fromarray(np.broadcast_to(sky, (len(rows), len(rows), 3)).astype(np.uint8))

    def mask(self, *shapes: Points, blur: float = 0) -> Image.Image:
        """Filled closed curves as a mask, blurred by `blur` units."""
        mask = Image.new("L", self.image.size)
        draw = ImageDraw.Draw(mask)
        for shape in shapes:
            draw.polygon([(x * _SCALE, y * _SCALE) for x, y in shape], fill=255)
        return mask.filter(ImageFilter.GaussianBlur(blur * _SCALE)) if blur else mask

    def paint(
        self, colour: Colour, mask: Image.Image, opacity: float = 1.0, within: Image.Image | None = None
    ) -> None:
        """Lay the colour on where the mask is, and only inside the mask `within`."""
        if within is not None:
            mask = ImageChops.multiply(mask, within)
        if opacity < 1:
            mask = mask.point(lambda value: round(value * opacity))
        self.image.paste(colour, mask=mask)


def _ellipse(x: float, y: float, rx: float, ry: float) -> Points:
    angles = np.linspace(0, 2 * np.pi, 200)
    return list(zip(x + rx * np.cos(angles), y + ry * np.sin(angles)))


def _curve(*points: tuple[float, float]) -> Points:
    """A smooth closed curve through the points (Catmull-Rom)."""
    p = np.array(points, dtype=float)
    before, after, last = np.roll(p, 1, 0), np.roll(p, -1, 0), np.roll(p, -2, 0)
    t = np.linspace(0, 1, 24, endpoint=False)[None, :, None]
    a, b, c, d = (q[:, None] for q in (before, p, after, last))
    curve = 0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3)
    return [(x, y) for x, y in curve.reshape(-1, 2)]


def _mirror(shape: Points) -> Points:
    return [(SIZE - x, y) for x, y in shape]


def _darker(colour: Colour, factor: float) -> Colour:
    return tuple(round(value * factor) for value in colour)


def draw_face() -> Image.Image:
    """A friendly face, 512x512, looking at the viewer."""
    canvas = _Canvas(top=(222, 230, 232), bottom=(188, 203, 206))
    canvas.paint((246, 249, 248), canvas.mask(_ellipse(256, 210, 190, 190), blur=60), 0.8)
    _hair_behind(canvas)
    _shoulders(canvas)
    head = _head(canvas)
    _eyes(canvas)
    _nose(canvas, head)
    _mouth(canvas, head)
    _fringe(canvas, head)
    return canvas.image.resize((SIZE, SIZE), Image.LANCZOS)


def _hair_behind(canvas: _Canvas) -> None:
    hair = canvas.mask(
        _curve(
            (256, 62), (330, 78), (378, 138), (388, 220), (392, 300), (372, 352), (330, 366),
            (256, 350), (182, 366), (140, 352), (120, 300), (124, 220), (134, 138), (182, 78),
        )
    )  # fmt: skip
    canvas.paint(_HAIR, hair)
    canvas.paint(_darker(_HAIR, 0.6), canvas.mask(_ellipse(256, 320, 105, 90), blur=22), 0.9, hair)
    for x in (136, 376):
        canvas.paint((128, 86, 64), canvas.mask(_ellipse(x, 200, 10, 74), blur=9), 0.55, hair)


def _shoulders(canvas: _Canvas) -> None:
    jumper = canvas.mask(
        _curve(
            (30, 540), (52, 462), (120, 424), (196, 404), (256, 400), (316, 404), (392, 424), (460, 462),
            (482, 540), (256, 620),
        )
    )  # fmt: skip
    neck = canvas.mask(
        _curve(
            (212, 330), (210, 388), (190, 412), (222, 442), (256, 450), (290, 442), (322, 412), (302, 388),
            (300, 330), (256, 310),
        )
    )  # fmt: skip
    canvas.paint(_JUMPER, jumper)
    for x in (70, 442):
        canvas.paint(_darker(_JUMPER, 0.62), canvas.mask(_ellipse(x, 520, 62, 70), blur=30), 0.8, jumper)
    canvas.paint(_darker(_JUMPER, 1.25), canvas.mask(_ellipse(256, 452, 104, 26), blur=20), 0.6, jumper)
    collar = canvas.mask(_ellipse(256, 414, 78, 48))
    canvas.paint(_darker(_JUMPER, 0.72), collar, within=jumper)
    canvas.paint(_darker(_SKIN, 0.93), neck)
    canvas.paint(_darker(_SKIN, 0.62), canvas.mask(_ellipse(256, 366, 62, 34), blur=15), 0.85, neck)


def _head(canvas: _Canvas) -> Image.Image:
    ear = _curve((146, 232), (132, 226), (126, 246), (134, 276), (148, 288), (156, 260))
    for shape in (ear, _mirror(ear)):
        mask = canvas.mask(shape)
        canvas.paint(_darker(_SKIN, 0.92), mask)
        centre = sum(x for x, _ in shape) / len(shape)
        canvas.paint(_darker(_SKIN, 0.7), canvas.mask(_ellipse(centre, 256, 7, 17), blur=4), 0.7, mask)

    head = canvas.mask(
        _curve(
            (256, 98), (318, 108), (358, 160), (366, 232), (356, 296), (324, 352), (284, 380), (256, 385),
            (228, 380), (188, 352), (156, 296), (146, 232), (154, 160), (194, 108),
        )
    )  # fmt: skip
    canvas.paint(_SKIN, head)
    canvas.paint((250, 216, 190), canvas.mask(_ellipse(240, 214, 74, 96), blur=36), 0.75, head)
    canvas.paint(_darker(_SKIN, 0.74), canvas.mask(_ellipse(372, 290, 32, 120), blur=22), 0.7, head)
    canvas.paint(_darker(_SKIN, 0.82), canvas.mask(_ellipse(146, 290, 20, 110), blur=18), 0.6, head)
    canvas.paint(_darker(_SKIN, 0.76), canvas.mask(_ellipse(256, 396, 84, 20), blur=12), 0.7, head)
    for x in (192, 320):
        canvas.paint((232, 128, 116), canvas.mask(_ellipse(x, 296, 27, 19), blur=13), 0.42, head)
    return head


def _eyes(canvas: _Canvas) -> None:
    outline = _curve(
        (174, 239), (186, 228), (202, 223.5), (219, 229), (230, 240), (217, 246), (201, 248), (186, 246),
    )  # fmt: skip
    lash = _curve(
        (168, 238), (184, 225), (202, 219.5), (221, 225), (233, 240), (229, 240), (218, 231), (202, 226.5),
        (187, 231), (176, 240),
    )  # fmt: skip
    crease = _curve(
        (176, 224), (188, 213), (203, 209), (220, 213), (230, 223), (219, 216), (203, 212), (189, 216),
    )  # fmt: skip
    brow = _curve(
        (166, 207), (182, 195), (206, 190), (234, 197), (233, 205), (206, 199), (184, 203), (168, 211),
    )  # fmt: skip
    for side in (lambda shape: shape, _mirror):
        centre = side([(203, 236)])[0][0]
        eye = canvas.mask(side(outline))
        canvas.paint(_darker(_SKIN, 0.7), canvas.mask(_ellipse(centre, 232, 37, 23), blur=9), 0.5)
        canvas.paint((250, 248, 245), eye)
        canvas.paint((176, 160, 156), canvas.mask(_ellipse(centre, 222, 32, 8), blur=4), 0.7, eye)
        canvas.paint((48, 72, 60), canvas.mask(_ellipse(centre, 236, 14.5, 14.5)), within=eye)
        canvas.paint((92, 136, 104), canvas.mask(_ellipse(centre, 238, 12, 12), blur=1.5), within=eye)
        canvas.paint((142, 178, 128), canvas.mask(_ellipse(centre, 243, 8, 5), blur=2.5), 0.8, eye)
        canvas.paint((18, 20, 20), canvas.mask(_ellipse(centre, 236, 6.3, 6.3)), within=eye)
        canvas.paint((255, 255, 255), canvas.mask(_ellipse(centre - 5, 230.5, 3.4, 3.4)), within=eye)
        canvas.paint((255, 255, 255), canvas.mask(_ellipse(centre + 5, 242, 1.8, 1.8)), 0.7, eye)
        canvas.paint((46, 30, 26), canvas.mask(side(lash), blur=0.4))
        canvas.paint(_darker(_SKIN, 0.62), canvas.mask(side(crease), blur=0.7), 0.8)
        lower = side(_curve((182, 246), (201, 250), (222, 245), (202, 254)))
        canvas.paint(_darker(_SKIN, 0.66), canvas.mask(lower, blur=1.2), 0.7)
        canvas.paint(_darker(_HAIR, 0.95), canvas.mask(side(brow), blur=1.3), 0.92)


def _nose(canvas: _Canvas, head: Image.Image) -> None:
    dark = _darker(_SKIN, 0.7)
    ridge = _curve((266, 232), (272, 268), (281, 294), (270, 300), (263, 262))
    canvas.paint(dark, canvas.mask(ridge, blur=6), 0.5)
    canvas.paint(dark, canvas.mask(_ellipse(256, 311, 20, 6), blur=4), 0.65, head)
    canvas.paint((255, 232, 212), canvas.mask(_ellipse(254, 262, 5, 34), blur=5), 0.75)
    canvas.paint((255, 236, 220), canvas.mask(_ellipse(254, 294, 8, 7), blur=4), 0.8)
    nostril = _curve((240, 305), (245, 301), (251, 305), (246, 308))
    wing = _curve((234, 290), (229, 301), (234, 309), (241, 309), (236, 303), (236, 295))
    for side in (lambda shape: shape, _mirror):
        canvas.paint(_darker(_SKIN, 0.42), canvas.mask(side(nostril), blur=1), 0.85)
        canvas.paint(_darker(_SKIN, 0.66), canvas.mask(side(wing), blur=1.6), 0.6)


def _mouth(canvas: _Canvas, head: Image.Image) -> None:
    upper = _curve(
        (208, 332), (232, 331), (248, 330), (256, 332), (264, 330), (280, 331), (304, 332), (280, 341),
        (256, 344), (232, 341),
    )  # fmt: skip
    lower = _curve(
        (212, 334), (232, 340), (256, 343), (280, 340), (300, 334), (282, 352), (256, 359), (230, 352),
    )  # fmt: skip
    line = _curve(
        (204, 328.5), (218, 335.5), (236, 341), (256, 343), (276, 341), (294, 335.5), (308, 328.5),
        (294, 337), (276, 342.7), (256, 345), (236, 342.7), (218, 337),
    )  # fmt: skip
    canvas.paint(_darker(_SKIN, 0.74), canvas.mask(_ellipse(256, 363, 26, 5), blur=5), 0.7, head)
    canvas.paint(_darker(_SKIN, 0.8), canvas.mask(_ellipse(256, 320, 5, 8), blur=3), 0.5, head)
    canvas.paint(_darker(_LIPS, 0.9), canvas.mask(upper, blur=0.6))
    low = canvas.mask(lower, blur=0.6)
    canvas.paint(_LIPS, low)
    canvas.paint((232, 150, 142), canvas.mask(_ellipse(254, 349, 20, 3.5), blur=3), 0.8, low)
    canvas.paint(_darker(_LIPS, 0.45), canvas.mask(line, blur=0.5), 0.95)
    fold = _curve((214, 300), (200, 316), (196, 332), (200, 334), (206, 318))
    for side in (lambda shape: shape, _mirror):
        corner = side([(205, 329)])[0][0]
        canvas.paint(_darker(_SKIN, 0.66), canvas.mask(_ellipse(corner, 329, 4, 4), blur=2.5), 0.75, head)
        canvas.paint(_darker(_SKIN, 0.8), canvas.mask(side(fold), blur=4), 0.55, head)


def _fringe(canvas: _Canvas, head: Image.Image) -> None:
    fringe = _curve(
        (256, 66), (326, 80), (370, 138), (378, 214), (366, 236), (358, 196), (340, 162), (306, 142),
        (270, 126), (246, 140), (206, 156), (170, 178), (154, 206), (146, 238), (134, 214), (142, 138),
        (186, 80),
    )  # fmt: skip
    shadow = [(x, y + 7) for x, y in fringe]
    canvas.paint(_darker(_SKIN, 0.6), canvas.mask(shadow, blur=6), 0.75, head)
    hair = canvas.mask(fringe)
    canvas.paint(_HAIR, hair)
    # Strands follow the parting to each side; the shine lies across them.
    draw, strands = np.random.default_rng(3), ([], [])
    for _ in range(110):
        side = draw.choice([-1, 1])
        reach, sink = draw.uniform(0.25, 1.0), draw.uniform(0.0, 1.0)
        x0, y0 = 266, 76 + 50 * sink
        x2, y2 = x0 + side * (40 + 80 * reach), 120 + 110 * reach
        x1, y1 = (x0 + x2) / 2 + side * 20, min(y0, y2) + 6 + 20 * sink
        t = np.linspace(0, 1, 30)
        x = (1 - t) ** 2 * x0 + 2 * t * (1 - t) * x1 + t**2 * x2
        y = (1 - t) ** 2 * y0 + 2 * t * (1 - t) * y1 + t**2 * y2
        width = 1.3 * np.sin(np.pi * np.clip(t, 0.05, 0.95))
        strand = list(zip(x, y - width)) + list(zip(x[::-1], (y + width)[::-1]))
        strands[draw.integers(2)].append(strand)
    canvas.paint(_darker(_HAIR, 0.65), canvas.mask(*strands[0], blur=0.6), 0.5, hair)
    canvas.paint((122, 82, 60), canvas.mask(*strands[1], blur=0.6), 0.5, hair)
    shine = canvas.mask(_curve((170, 128), (210, 98), (246, 100), (210, 110), (176, 140)), blur=8)
    canvas.paint((176, 128, 98), shine, 0.6, hair)
    shine = canvas.mask(_curve((290, 98), (326, 108), (352, 148), (322, 120), (292, 108)), blur=8)
    canvas.paint((176, 128, 98), shine, 0.5, hair)


def main() -> None:
    parser = argparse.ArgumentParser(description="Draw the picture of the demo.")
    parser.add_argument("output", type=Path, help="the PNG to write")
    draw_face().save(parser.parse_args().output, optimize=True)


if __name__ == "__main__":
    main()
