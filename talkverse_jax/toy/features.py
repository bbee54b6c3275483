"""What of a face moves by itself: eyes that blink and look about, a mouth of any opening and width."""

from functools import lru_cache

import numpy as np
from PIL import Image

from talkverse_jax.toy.canvas import Canvas, Points, ellipse, mixed, tinted
from talkverse_jax.toy.person import EYES, HAIR, Person
from talkverse_jax.toy.portrait import EYES_Y, MIDDLE, MOUTH_Y

_SCALE = 6
_EYE = 14, 22  # units (height, width) of the patch around an eye
_MOUTH = 36, 48
_MOUTH_MIDDLE = 14  # rows of its patch above the line between shut lips
_UPPER = 0.3  # of the opening the upper lip does; the lower one does the rest


@lru_cache(maxsize=64)
def eye(person: Person, lids: float, gaze: float, scale: int) -> Image.Image:
    """An eye, RGBA, around the middle of its patch.

    Args:
      lids: 0 shut to 1 open.
      gaze: units that the iris is to the right.
    """
    height, width = _EYE
    canvas = Canvas(height, width, _SCALE, person.skin)
    x, y, half = width / 2, height / 2, person.eye
    dark = mixed(tinted(HAIR[person.hair], 0.5), (34, 26, 28), 0.6)
    top, foot = _lids(half, lids)
    upper, lower = top + [x, y], foot + [x, y]
    if lids > 0.05:
        white = canvas.mask(np.concatenate([upper, lower[::-1]]))
        canvas.paint((250, 249, 247), white)
        canvas.paint((196, 186, 186), canvas.mask(ellipse(x, y - 4.5, half, 2), blur=1), 0.6, white)
        colour = EYES[person.eyes]
        canvas.paint(tinted(colour, 0.65), canvas.mask(ellipse(x + gaze, y - 0.2, 3.6, 3.7)), within=white)
        canvas.paint(colour, canvas.mask(ellipse(x + gaze, y, 2.9, 3.0), blur=0.3), within=white)
        canvas.paint((18, 16, 18), canvas.mask(ellipse(x + gaze, y - 0.2, 1.6, 1.7)), within=white)
        canvas.paint((255, 255, 255), canvas.mask(ellipse(x + gaze - 1.2, y - 1.5, 0.9, 0.9)), within=white)
    lash = np.concatenate([upper - [0, 0.9], (upper + [0, 0.5])[::-1]])
    canvas.paint(dark, canvas.mask(lash, blur=0.15))
    return canvas.finished(scale)


def _lids(half: float, lids: float) -> tuple[Points, Points]:
    """The edges of both lids around an eye's middle, from left to right."""
    u = np.linspace(-1, 1, 24)
    arch = np.sqrt(np.clip(1 - u**2, 0, 1))
    foot = 2.6 * arch
    top = foot - (foot + 4.4 * arch) * lids
    return np.stack([half * u, top], axis=1), np.stack([half * u, foot], axis=1)


def eye_places(person: Person) -> tuple[tuple[float, float], tuple[float, float]]:
    """(left, top) of the patches of both eyes."""
    height, width = _EYE
    left, right, top = MIDDLE - person.apart, MIDDLE + person.apart, EYES_Y - height / 2
    return (left - width / 2, top), (right - width / 2, top)


def eye_points(person: Person, lids: float) -> Points:
    """The six landmarks of each eye."""
    half, up = person.eye, 4.4 * lids - 2.6 * (1 - lids)
    one = np.array([(-half, 0), (-half / 2, -up), (half / 2, -up), (half, 0), (half / 2, 2.4), (-half / 2, 2.4)])
    return np.concatenate([one + [MIDDLE + side * person.apart, EYES_Y] for side in (-1, 1)])


class Lips:
    """The curves of a mouth, around the middle of the line between shut lips.

    Attributes:
      half: half its width.
      upper, lower: inner edges of the lips, from left to right.
      above, below: their outer edges.
    """

    def __init__(self, person: Person, opening: float, width: float, smile: float):
        """opening: 0 to 1; width: 1 at rest; smile: 0 to 1."""
        gap = opening * person.widest
        self.half = person.mouth / 2 * (width + 0.12 * smile)
        u = np.linspace(-1, 1, 33)
        arch = (1 - u**2) ** 0.7
        corners = -3.2 * smile * u**2 + 0.6 * smile
        bow = 0.5 * np.exp(-((np.abs(u) - 0.22) ** 2) / 0.02) - 0.35 * np.exp(-(u**2) / 0.012)
        thick = person.lips * (1 - 0.15 * smile) * (1.12 - 0.25 * (width - 0.85))
        upper = corners - _UPPER * gap * arch
        lower = corners + (1 - _UPPER) * gap * arch
        x = self.half * u
        self.upper, self.lower = np.stack([x, upper], 1), np.stack([x, lower], 1)
        full = (1 - u**4) ** 0.9
        self.above = np.stack([1.06 * x, upper - thick * (2.6 * full + bow)], 1)
        self.below = np.stack([1.06 * x, lower + thick * 3.5 * (1 - np.abs(u) ** 2.6)], 1)
        self.gap = gap

    def points(self) -> Points:
        """The twenty landmarks of a mouth: twelve around the lips, eight within."""
        at = lambda edge, places: edge[np.round((np.array(places) + 1) * 16).astype(int)]  # noqa: E731
        outer = [at(self.above, [-1, -0.6, -0.25, 0, 0.25, 0.6, 1]), at(self.below, [0.6, 0.25, 0, -0.25, -0.6])]
        inner = [at(self.upper, [-0.9, -0.3, 0, 0.3, 0.9]), at(self.lower, [0.3, 0, -0.3])]
        return np.concatenate(outer + inner) + [MIDDLE, MOUTH_Y]


def mouth(person: Person, lips: Lips, smile: float, scale: int) -> Image.Image:
    """A mouth, RGBA; its patch lies at `MOUTH_PLACE`."""
    height, width = _MOUTH
    red = mixed(person.skin, (190, 58, 66), 0.55)
    canvas = Canvas(height, width, _SCALE, person.skin)
    move = np.array([width / 2, _MOUTH_MIDDLE])
    upper, lower = lips.upper + move, lips.lower + move
    if smile > 0.02:
        for side in (-1, 1):
            fold = ellipse(width / 2 + side * (lips.half + 1.5), _MOUTH_MIDDLE - 3, 1.6, 3)
            canvas.paint(tinted(person.skin, 0.72), canvas.mask(fold, blur=1), 0.5 * smile)
    top, foot = np.concatenate([lips.above + move, upper[::-1]]), np.concatenate([lower, (lips.below + move)[::-1]])
    canvas.paint(red, canvas.mask(foot))
    canvas.paint(tinted(red, 0.88), canvas.mask(top))
    shine = ellipse(width / 2 - 1, _MOUTH_MIDDLE + (1 - _UPPER) * lips.gap + 2.0, 4.5, 0.7)
    canvas.paint(tinted(red, 1.5), canvas.mask(shine), 0.45)
    line = np.concatenate([upper - [0, 0.35], (lower + [0, 0.35])[::-1]])
    canvas.paint((60, 15, 23), canvas.mask(line))
    if lips.gap > 1.5:
        within = canvas.mask(np.concatenate([upper, lower[::-1]]))
        tongue = ellipse(width / 2, _MOUTH_MIDDLE + 0.75 * lips.gap, 0.55 * lips.half, 0.28 * lips.gap)
        canvas.paint((186, 84, 88), canvas.mask(tongue), 0.85, within)
        teeth = np.concatenate([upper, upper[::-1] + [0, min(2.4, 0.3 * lips.gap)]])
        canvas.paint((244, 240, 232), canvas.mask(teeth), within=within)
    return canvas.finished(scale)


MOUTH_PLACE = MIDDLE - _MOUTH[1] / 2, MOUTH_Y - _MOUTH_MIDDLE
