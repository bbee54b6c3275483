"""What of a person does not move by itself: the room and the body, the head without eyes and mouth, the glasses.

Units are 128ths of the picture's short side; a head is drawn in a square of 128 x 128 of them.
"""

import numpy as np
from PIL import Image

from talkverse_jax.toy.canvas import Canvas, Points, curve, ellipse, mirrored, mixed, symmetric, tinted
from talkverse_jax.toy.person import CLOTHES, COLLARS, HAIR, WALLS, Colour, Person

UNITS = 128
MIDDLE = 64.0
EYES_Y, NOSE_Y, MOUTH_Y = 60.0, 76.0, 90.0
BODY_MARGIN = 8
_SCALE = 4
_FOOT = 320  # units: how far down a body goes
_TOP = 32.0  # where a face begins, under the hair


def face_outline(person: Person) -> Points:
    """The edge of the face."""
    half, jaw = person.face, person.face * person.jaw
    chin = person.chin
    return symmetric(
        [
            (0, _TOP - 4), (0.62 * half, _TOP), (0.93 * half, _TOP + 14), (half, 62), (0.97 * half, 76),
            (jaw, chin - 17), (0.62 * jaw, chin - 5), (0.26 * jaw, chin - 0.5), (0, chin),
        ]
    )  # fmt: skip


def head(person: Person, scale: int) -> Image.Image:
    """Hair, ears and the face without eyes and mouth; RGBA, `scale` pixels a unit."""
    hair = HAIR[person.hair]
    canvas = Canvas(UNITS, UNITS, _SCALE, hair)
    _hair_behind(canvas, person, hair)
    skin = person.skin
    for ear in (ellipse(MIDDLE - person.face, 65, 4.5, 8), ellipse(MIDDLE + person.face, 65, 4.5, 8)):
        canvas.paint(tinted(skin, 0.9), canvas.mask(ear))
    face = canvas.mask(face_outline(person))
    canvas.paint(skin, face)
    canvas.paint(tinted(skin, 1.35), canvas.mask(ellipse(58, 56, 18, 22), blur=9), 0.45, face)
    canvas.paint(tinted(skin, 0.8), canvas.mask(ellipse(MIDDLE + person.face + 3, 76, 9, 34), blur=6), 0.6, face)
    canvas.paint(tinted(skin, 0.84), canvas.mask(ellipse(MIDDLE, person.chin + 3, 24, 6), blur=3), 0.6, face)
    blush = mixed(skin, (224, 104, 92), 0.45)
    for side in (-1, 1):
        canvas.paint(blush, canvas.mask(ellipse(MIDDLE + side * 0.62 * person.face, 77, 7, 5), blur=3.5), 0.5, face)
    _nose(canvas, person)
    _brows(canvas, person, hair)
    _hair_before(canvas, person, hair, face)
    return canvas.finished(scale)


def _hair_behind(canvas: Canvas, person: Person, hair: Colour) -> None:
    half = person.face
    dark = tinted(hair, 0.78)
    if person.style == "long":
        shape = [(0, 10), (0.75 * half, 15), (half + 7, 38), (half + 9, 70), (half + 10, 104), (half + 5, 126)]
        canvas.paint(dark, canvas.mask(symmetric([*shape, (0, 124)])))
    elif person.style == "bobbed":
        shape = [(0, 11), (0.75 * half, 15), (half + 7, 38), (half + 9, 68), (half + 8, 90), (half - 4, 98)]
        canvas.paint(dark, canvas.mask(symmetric([*shape, (0, 92)])))
    elif person.style == "tied-up":
        canvas.paint(dark, canvas.mask(ellipse(MIDDLE, 11, 12, 10)))
        canvas.paint(tinted(hair, 1.2), canvas.mask(ellipse(MIDDLE - 3, 8, 5, 4), blur=2), 0.5)
        shape = [(0, 15), (0.8 * half, 21), (half + 2.5, 42), (half, 62), (0, 62)]
        canvas.paint(hair, canvas.mask(symmetric(shape)))
    else:
        shape = [(0, 13), (0.8 * half, 19), (half + 3.5, 40), (half, 66), (0, 66)]
        canvas.paint(dark, canvas.mask(symmetric(shape)))


def _hair_before(canvas: Canvas, person: Person, hair: Colour, face: Image.Image) -> None:
    half = person.face
    light = tinted(hair, 1.3)
    if person.style == "curly":
        turn = np.linspace(0.97 * np.pi, 2.03 * np.pi, 12)
        locks = [ellipse(MIDDLE + (half + 1) * np.cos(a), 46 + 29 * np.sin(a), 9, 8.5) for a in turn]
        locks += [ellipse(MIDDLE + 0.62 * half * np.cos(a), 37 + 16 * np.sin(a), 10, 8) for a in turn[2:-2]]
        canvas.paint(tinted(person.skin, 0.7), canvas.mask(*(lock + [0, 2.5] for lock in locks), blur=2), 0.5, face)
        canvas.paint(hair, canvas.mask(*locks))
        shine = [ellipse(x - 2, y - 2.5, 3.6, 2.4) for x, y in (lock.mean(0) for lock in locks)]
        canvas.paint(light, canvas.mask(*shine, blur=1.2), 0.45)
        return
    crown = [(0, 12), (0.75 * half, 17), (half + 3, 38), (half + 2.5, 58), (half - 1.5, 60)]
    if person.style == "tied-up":
        crown = [(0, 16), (0.75 * half, 21), (half + 2, 42), (half + 1, 58), (half - 2, 58)]
    fringe = {
        "short": [(0.88 * half, 44), (0.6 * half, 37), (0, 35)],
        "tied-up": [(0.92 * half, 46), (0.66 * half, 35), (0, 30)],
        "bobbed": [(0.95 * half, 50), (0.8 * half, 48), (0, 46)],
    }
    if person.style in fringe:
        shape = symmetric(crown + fringe[person.style])
    else:  # falls from a parting on the left
        right, left = [(MIDDLE + x, y) for x, y in crown], [(MIDDLE - x, y) for x, y in crown[:0:-1]]
        low = 56 if person.style == "long" else 50
        edge = [(MIDDLE + 0.93 * half, low), (MIDDLE + 0.62 * half, 43), (MIDDLE - 0.05 * half, 34)]
        edge += [(MIDDLE - 0.42 * half, 28), (MIDDLE - 0.72 * half, 36), (MIDDLE - 0.95 * half, low)]
        shape = curve(right + edge + left)
    canvas.paint(tinted(person.skin, 0.7), canvas.mask(shape + [0, 2.5], blur=2), 0.5, face)
    mask = canvas.mask(shape)
    canvas.paint(hair, mask)
    sheen = curve([(40, 30), (52, 21), (72, 20), (88, 27), (72, 25), (54, 26)])
    canvas.paint(light, canvas.mask(sheen, blur=2.5), 0.6, mask)
    canvas.paint(tinted(hair, 0.75), canvas.mask(ellipse(MIDDLE + half, 46, 7, 20), blur=4), 0.5, mask)


def _nose(canvas: Canvas, person: Person) -> None:
    dark, half = tinted(person.skin, 0.72), person.nose
    canvas.paint(dark, canvas.mask(ellipse(MIDDLE + 2, NOSE_Y - 7, 2.2, 8), blur=2), 0.3)
    canvas.paint(dark, canvas.mask(ellipse(MIDDLE, NOSE_Y + 1.5, half, 2.2), blur=1.2), 0.65)
    canvas.paint(tinted(person.skin, 1.5), canvas.mask(ellipse(MIDDLE - 0.8, NOSE_Y - 3, 2, 3), blur=1.3), 0.55)
    for side in (-1, 1):
        nostril = ellipse(MIDDLE + side * 0.5 * half, NOSE_Y + 1.2, 1.3, 0.9)
        canvas.paint(tinted(person.skin, 0.5), canvas.mask(nostril, blur=0.3), 0.8)


def brow_points(person: Person) -> Points:
    """The upper edge of the right brow, from within outwards."""
    at = MIDDLE + person.apart
    return np.array([(at - 8, 49.5), (at - 4, 47.6), (at, 46.8), (at + 4, 47.4), (at + 8.5, 50)])


def _brows(canvas: Canvas, person: Person, hair: Colour) -> None:
    upper = brow_points(person)
    lower = upper[::-1] + [0, person.brow] * np.array([[0.3], [0.9], [1], [1], [0.8]])
    shape = curve([*upper, *lower])
    colour = mixed(tinted(hair, 0.7), person.skin, 0.15)
    canvas.paint(colour, canvas.mask(shape, mirrored(shape), blur=0.3))


def glasses(person: Person, scale: int) -> Image.Image | None:
    """Frames and a gleam on the lenses; RGBA, `scale` pixels a unit."""
    if person.glasses == "none":
        return None
    canvas = Canvas(UNITS, UNITS, _SCALE, (40, 40, 46))
    lenses, holes = [], []
    for side in (-1, 1):
        x = MIDDLE + side * person.apart
        if person.glasses == "round":
            lenses.append(ellipse(x, EYES_Y + 1, 12, 11.5))
            holes.append(ellipse(x, EYES_Y + 1, 10.6, 10.1))
        else:
            lenses.append(_rounded(x, EYES_Y + 1, 12.6, 9.6))
            holes.append(_rounded(x, EYES_Y + 1, 11.1, 8.1))
    inner, outer = person.apart - 11.5, person.apart + 11.5
    bars = [_bar(MIDDLE - inner, MIDDLE + inner, EYES_Y - 1)]
    bars += [_bar(MIDDLE + side * outer, MIDDLE + side * (person.face + 1), EYES_Y - 2) for side in (-1, 1)]
    frame = canvas.mask(*lenses, *bars)
    within = canvas.mask(*holes)
    frame.paste(0, mask=within)
    canvas.paint((44, 42, 48), frame)
    gleam = [ellipse(hole[:, 0].mean() - 4, EYES_Y - 3, 3.5, 2) for hole in holes]
    canvas.paint((255, 255, 255), canvas.mask(*gleam, blur=1.5), 0.35, within)
    return canvas.finished(scale)


def _rounded(x: float, y: float, rx: float, ry: float) -> Points:
    """A rectangle with round corners (a superellipse)."""
    turn = np.linspace(0, 2 * np.pi, 96, endpoint=False)
    cos, sin = np.cos(turn), np.sin(turn)
    power = lambda value: np.sign(value) * np.abs(value) ** 0.45  # noqa: E731
    return np.stack([x + rx * power(cos), y + ry * power(sin)], axis=1)


def _bar(left: float, right: float, y: float) -> Points:
    return np.array([(left, y - 0.8), (right, y - 0.8), (right, y + 0.8), (left, y + 0.8)])


def scene(person: Person, rng: np.random.Generator, height: float, width: float, scale: int) -> Image.Image:
    """The room with the body in it; RGBA of height x width units. The head's square is `head_offset` into it."""
    canvas = _room(person, rng, height, width)
    _body(canvas, person, np.array(head_offset(height, width)))
    return canvas.finished(scale)


def room(person: Person, rng: np.random.Generator, height: float, width: float, scale: int) -> Image.Image:
    """The person's room, empty; RGBA of height x width units."""
    return _room(person, rng, height, width).finished(scale)


def body(person: Person, scale: int) -> Image.Image:
    """The body alone; RGBA, as wide as the shoulders and `BODY_MARGIN` wider to each side than the head's square, and
    far below it."""
    canvas = Canvas(_FOOT, UNITS + 2 * BODY_MARGIN, _SCALE, CLOTHES[person.clothes])
    _body(canvas, person, np.array([BODY_MARGIN, 0]))
    return canvas.finished(scale)


def _room(person: Person, rng: np.random.Generator, height: float, width: float) -> Canvas:
    wall = WALLS[person.wall]
    canvas = Canvas(height, width, _SCALE, wall)
    canvas.paint(wall, canvas.mask(np.array([(0, 0), (width, 0), (width, height), (0, height)])))
    _pattern(canvas, person, wall, rng, height, width)
    canvas.paint(tinted(wall, 1.8), canvas.mask(ellipse(0.35 * width, 0.3 * height, 40, 40), blur=22), 0.4)
    canvas.paint(tinted(wall, 0.7), canvas.mask(ellipse(width, height, 50, 60), blur=25), 0.5)
    return canvas


def head_offset(height: float, width: float) -> tuple[float, float]:
    """(left, top) of the head's square in a picture of that size: in the middle, a little above it."""
    return (width - UNITS) / 2, 0.4 * (height - UNITS)


def _pattern(
    canvas: Canvas, person: Person, wall: Colour, rng: np.random.Generator, height: float, width: float
) -> None:
    other = tinted(wall, 0.88)
    box = lambda a, b, c, d: np.array([(a, b), (c, b), (c, d), (a, d)])  # noqa: E731
    if person.pattern == "striped":
        step = float(rng.uniform(10, 18))
        for x in np.arange(rng.uniform(0, step), width, step):
            canvas.paint(other, canvas.mask(box(x, 0, x + 0.45 * step, height)))
    elif person.pattern == "dotted":
        step = float(rng.uniform(13, 20))
        rows, columns = np.arange(4, height, step), np.arange(4, width + step, step)
        dots = [ellipse(x - (i % 2) * step / 2, y, 3, 3) for i, y in enumerate(rows) for x in columns]
        canvas.paint(other, canvas.mask(*dots))
    elif person.pattern == "windowed":
        x, wide = float(rng.choice([-6.0, width - 34.0])), 40.0
        canvas.paint((250, 248, 242), canvas.mask(box(x, 8, x + wide, 84)))
        canvas.paint((160, 206, 236), canvas.mask(box(x + 4, 12, x + wide - 4, 80)))
        canvas.paint((214, 234, 244), canvas.mask(ellipse(x + 22, 74, 26, 18), blur=8), 0.9)
        canvas.paint((250, 248, 242), canvas.mask(box(x + 18, 8, x + 21, 84), box(x, 43, x + wide, 46)))


_SHOULDERS = (0, 112), (20, 113), (40, 118), (58, 128), (66, 148), (68, 180)


def shoulders(y: float) -> float:
    """Half the width of the body at that height of the head's square, or below it."""
    half, heights = np.array(_SHOULDERS).T
    return float(np.interp(y, heights, half))


def _body(canvas: Canvas, person: Person, offset: np.ndarray) -> None:
    cloth, skin = CLOTHES[person.clothes], person.skin
    place = lambda points: symmetric(points) + offset  # noqa: E731
    collar = COLLARS[person.garment]
    if collar == "hood":
        canvas.paint(tinted(cloth, 0.8), canvas.mask(place([(0, 88), (26, 96), (38, 112), (30, 126), (0, 128)])))
    torso = canvas.mask(place([*_SHOULDERS, (68, _FOOT), (0, _FOOT)]))
    canvas.paint(cloth, torso)
    for side in (-1, 1):
        shade = ellipse(MIDDLE + side * 58, 140, 14, 22) + offset
        canvas.paint(tinted(cloth, 0.7), canvas.mask(shade, blur=7), 0.7, torso)
    neck = canvas.mask(place([(15, 92), (15, 108), (19, 114), (10, 119), (0, 120)]))
    if collar == "open":
        opening = canvas.mask(place([(19, 112), (10, 124), (0, 134)]))
        canvas.paint(skin, opening, within=torso)
        flap = curve([(84, 111), (88, 116), (76, 128), (66, 133), (76, 122)])
        canvas.paint(tinted(cloth, 0.85), canvas.mask(flap + offset, mirrored(flap) + offset))
    else:
        canvas.paint(tinted(cloth, 0.78), canvas.mask(ellipse(MIDDLE, 114, 22, 9) + offset), within=torso)
    canvas.paint(tinted(skin, 0.92), neck)
    canvas.paint(tinted(skin, 0.66), canvas.mask(ellipse(MIDDLE, 106, 20, 9) + offset, blur=4), 0.8, neck)
