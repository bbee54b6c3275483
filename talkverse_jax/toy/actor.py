"""Somebody in a film: how the head sways, the eyes blink and look about, a smile comes; and where all that is."""

import numpy as np
from jaxtyping import Float
from PIL import Image

from talkverse_jax.toy import features, portrait
from talkverse_jax.toy.canvas import Points, mirrored
from talkverse_jax.toy.features import Lips
from talkverse_jax.toy.person import Person
from talkverse_jax.toy.portrait import EYES_Y, MIDDLE, NOSE_Y
from talkverse_jax.toy.speech import FPS, Speech

SCALE = 2  # pixels a unit while layers are put together

_NECK = np.array([MIDDLE, 116.0])  # what the head turns about
_BLINK = (0.6, 0.1, 0.35, 0.8)  # how far the lids are open in the frames of a blink
_SMILING = 0.5  # seconds a smile takes to come
_POINTS = slice(23, 91)  # those of a face among 133 of the whole body
_SURE = 0.9  # the confidence of each


class Actor:
    """A person who says something.

    Args:
      corner: where the person's square of 128 x 128 units begins (right, down), in units of the picture.
      zoom: units of the picture a unit of the person.
    """

    def __init__(
        self,
        person: Person,
        speech: Speech,
        rng: np.random.Generator,
        corner: Float[np.ndarray, "2"],
        zoom: float = 1.0,
    ):
        count = len(speech.opening)
        self.person, self.speech, self.corner, self.zoom = person, speech, corner, zoom
        self._head, self._front = portrait.head(person, SCALE), portrait.glasses(person, SCALE)
        self._outline = portrait.face_outline(person)
        self._moves = _sway(rng, count)
        self._lids, self._gaze = _blinks(rng, count), _looks(rng, count)
        self._smiles = _smile(person, count)

    def shown(self, frame: int, size: tuple[int, int]) -> Image.Image:
        """The head in a frame, RGBA; a picture of that size (width, height), `SCALE` pixels a unit."""
        person, layer = self.person, self._head.copy()
        for place in features.eye_places(person):
            layer.alpha_composite(features.eye(person, self._lids[frame], self._gaze[frame], SCALE), _pixels(place))
        mouth = features.mouth(person, self._lips(frame), self._smiles[frame], SCALE)
        layer.alpha_composite(mouth, _pixels(features.MOUTH_PLACE))
        if self._front is not None:
            layer.alpha_composite(self._front)
        return moved(layer, self._moves[frame, 0], self._moves[frame, 1:] + self.corner / self.zoom, self.zoom, size)

    def keypoints(self, frame: int) -> Float[np.ndarray, "133 3"]:
        """x, y in units of the picture and confidence of 133 whole-body points; the 68 of the face are there, the
        others are 0."""
        points = np.concatenate([_landmarks(self.person, self._lids[frame], self._outline), self._lips(frame).points()])
        turn, shift = self._moves[frame, 0], self._moves[frame, 1:]
        placed = ((points - _NECK) @ _rotation(turn).T + _NECK + shift + self.corner / self.zoom) * self.zoom
        found = np.zeros((133, 3))
        found[_POINTS] = np.concatenate([placed, np.full((68, 1), _SURE)], axis=1)
        return found

    def body(self, frame: int, size: tuple[float, float]) -> Float[np.ndarray, "4"]:
        """The box (left, top, right, bottom) from the hair to the picture's foot, as wide as the shoulders; in units.

        Args:
          size: (height, width) of the picture.
        """
        top = {"tied-up": 1.0, "curly": 8.5}.get(self.person.style, 11.0)
        height, width = size
        left, down = self.corner
        half = portrait.shoulders((height - down) / self.zoom)
        middle, up = left + self.zoom * MIDDLE, top + (self._moves[frame, 2] + down / self.zoom)
        box = [middle - self.zoom * half, self.zoom * up, middle + self.zoom * half, height]
        return np.clip(box, 0, [width - 1, height - 1, width - 1, height - 1])

    @property
    def opening(self) -> Float[np.ndarray, " T"]:
        """Of the mouth, in units of the picture."""
        return self.speech.opening * self.person.widest * self.zoom

    def _lips(self, frame: int) -> Lips:
        return Lips(self.person, self.speech.opening[frame], self.speech.width[frame], self._smiles[frame])


def moved(
    layer: Image.Image, turn: float, shift: Float[np.ndarray, "2"], zoom: float, size: tuple[int, int]
) -> Image.Image:
    """The layer turned about the neck, shifted (units) and scaled, in a picture of that size."""
    back = _rotation(-turn)
    start = SCALE * (_NECK - back @ (_NECK + shift))
    (a, b), (d, e) = back / zoom
    return layer.transform(size, Image.Transform.AFFINE, (a, b, start[0], d, e, start[1]), Image.Resampling.BILINEAR)


def _pixels(place: tuple[float, float]) -> tuple[int, int]:
    return round(place[0] * SCALE), round(place[1] * SCALE)


def _rotation(turn: float) -> Float[np.ndarray, "2 2"]:
    return np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])


def _sway(rng: np.random.Generator, count: int) -> Float[np.ndarray, "T 3"]:
    """(radians, right, down) of the head: slow waves."""
    seconds = np.arange(count) / FPS
    most = np.array([0.035, 1.6, 0.9]) * rng.uniform(0.5, 1.0, 3)
    waves = np.zeros((count, 3))
    for share, low, high in ((0.65, 0.08, 0.2), (0.35, 0.25, 0.5)):
        hertz, phase = rng.uniform(low, high, 3), rng.uniform(0, 2 * np.pi, 3)
        waves += share * np.sin(2 * np.pi * hertz * seconds[:, None] + phase)
    return waves * most


def _blinks(rng: np.random.Generator, count: int) -> Float[np.ndarray, " T"]:
    lids = np.ones(count)
    at = int(rng.integers(10, 80))
    while at < count:
        part = _BLINK[: count - at]
        lids[at : at + len(part)] = part
        at += int(rng.integers(45, 130))
    return lids


def _looks(rng: np.random.Generator, count: int) -> Float[np.ndarray, " T"]:
    """Mostly at the viewer; now and then aside for a while."""
    gaze = np.zeros(count)
    at = int(rng.integers(20, 120))
    while at < count:
        length = int(rng.integers(10, 30))
        gaze[at : at + length] = rng.choice([-1.5, -1.0, 1.0, 1.5])
        at += length + int(rng.integers(40, 140))
    return gaze


def _smile(person: Person, count: int) -> Float[np.ndarray, " T"]:
    if person.smile_from is None:
        return np.zeros(count)
    seconds = np.arange(count) / FPS
    since = np.clip((seconds - person.smile_from) / _SMILING, 0, 1) if person.smile_from > 0 else np.ones(count)
    return since * since * (3 - 2 * since)


def _landmarks(person: Person, lids: float, outline: Points) -> Points:
    """The 48 landmarks of a face above its mouth: jaw (17), brows (10), nose (9), eyes (12)."""
    heights = np.concatenate([np.linspace(62, person.chin - 6, 8), [person.chin - 1.5]])
    halves = [_half_width(outline, y) for y in heights[:8]] + [0.35 * person.face * person.jaw]
    right = [(MIDDLE + x, y) for x, y in zip(halves, heights)]
    left = [(2 * MIDDLE - x, y) for x, y in right]
    jaw = [*left[:8], (MIDDLE, person.chin), *right[7::-1]]
    brow = portrait.brow_points(person)
    brows = [*mirrored(brow)[::-1], *brow]
    ridge = [(MIDDLE, y) for y in np.linspace(EYES_Y - 2, NOSE_Y - 3, 4)]
    wings = [(MIDDLE + x * person.nose, NOSE_Y + 2 - abs(x)) for x in (-1, -0.5, 0, 0.5, 1)]
    return np.concatenate([np.array([*jaw, *brows, *ridge, *wings]), features.eye_points(person, lids)])


def _half_width(outline: Points, y: float) -> float:
    """Half the width of the face at that height."""
    near = outline[np.argsort(np.abs(outline[:, 1] - y))[:4]]
    return float(np.abs(near[:, 0] - MIDDLE).mean())
