"""A person speaks: frames, and where face and body are in each of them."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, UInt8
from PIL import Image

from talkverse_jax.toy import features, portrait
from talkverse_jax.toy.canvas import Points, mirrored
from talkverse_jax.toy.features import Lips
from talkverse_jax.toy.person import Person
from talkverse_jax.toy.portrait import EYES_Y, MIDDLE, NOSE_Y, UNITS
from talkverse_jax.toy.speech import FPS, Speech

_SCALE = 2  # pixels a unit while layers are put together
_NECK = np.array([MIDDLE, 116.0])  # what the head turns about
_BLINK = (0.6, 0.1, 0.35, 0.8)  # how far the lids are open in the frames of a blink
_SMILING = 0.5  # seconds a smile takes to come


@dataclass(frozen=True, eq=False)
class Film:
    """Frames at 25 a second, and what is known of them.

    Attributes:
      keypoints: x, y in pixels and confidence of 133 whole-body points; the 68 of the face are there, the
        others are 0.
      bodies: the box (left, top, right, bottom) of what is seen of the person.
      opening: of the mouth, in pixels.
    """

    frames: UInt8[np.ndarray, "T H W 3"]
    keypoints: Float32[np.ndarray, "T 1 133 3"]
    bodies: Float32[np.ndarray, "T 4"]
    opening: Float[np.ndarray, " T"]


def film(person: Person, speech: Speech, rng: np.random.Generator, size: tuple[int, int]) -> Film:
    """The person says that.

    Args:
      size: (H, W) of the pictures; the short side shows `UNITS` units.
    """
    zoom = min(size) / UNITS  # pixels a unit
    height, width = size[0] / zoom, size[1] / zoom
    offset = np.array(portrait.head_offset(height, width))
    room = portrait.scene(person, rng, height, width, _SCALE)
    head, front = portrait.head(person, _SCALE), portrait.glasses(person, _SCALE)
    count = len(speech.opening)
    moves = _sway(rng, count)
    lids, gaze = _blinks(rng, count), _looks(rng, count)
    smiles = _smile(person, count)
    frames = np.empty((count, *size, 3), np.uint8)
    keypoints, bodies = np.zeros((count, 1, 133, 3), np.float32), np.zeros((count, 4), np.float32)
    outline = portrait.face_outline(person)
    for number in range(count):
        lips = Lips(person, speech.opening[number], speech.width[number], smiles[number])
        layer = head.copy()
        for place in features.eye_places(person):
            layer.alpha_composite(features.eye(person, lids[number], gaze[number], _SCALE), _pixels(place))
        layer.alpha_composite(features.mouth(person, lips, smiles[number], _SCALE), _pixels(features.MOUTH_PLACE))
        if front is not None:
            layer.alpha_composite(front)
        turn, shift = moves[number, 0], moves[number, 1:]
        picture = Image.alpha_composite(room, _moved(layer, turn, shift + offset, room.size))
        shown = picture.convert("RGB").resize((size[1], size[0]), Image.Resampling.BOX)
        frames[number] = np.asarray(shown)
        points = np.concatenate([_landmarks(person, lids[number], outline), lips.points()])
        placed = ((points - _NECK) @ _rotation(turn).T + _NECK + shift + offset) * zoom
        keypoints[number, 0, 23:91] = np.concatenate([placed, np.full((68, 1), 0.9)], axis=1)
        bodies[number] = _body_box(person, shift + offset, (height, width)) * zoom
    return Film(frames, keypoints, bodies, speech.opening * person.widest * zoom)


def _pixels(place: tuple[float, float]) -> tuple[int, int]:
    return round(place[0] * _SCALE), round(place[1] * _SCALE)


def _rotation(turn: float) -> Float[np.ndarray, "2 2"]:
    return np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])


def _moved(layer: Image.Image, turn: float, shift: Float[np.ndarray, "2"], size: tuple[int, int]) -> Image.Image:
    """The layer turned about the neck and shifted (units), in a picture of that size."""
    back = _rotation(-turn)
    start = _SCALE * (_NECK - back @ (_NECK + shift))
    (a, b), (d, e) = back
    return layer.transform(size, Image.Transform.AFFINE, (a, b, start[0], d, e, start[1]), Image.Resampling.BILINEAR)


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


def _body_box(person: Person, shift: Float[np.ndarray, "2"], size: tuple[float, float]) -> Float[np.ndarray, "4"]:
    """The box from the hair to the picture's foot, as wide as the shoulders; in units."""
    top = {"tied-up": 1.0, "curly": 8.5}.get(person.style, 11.0)
    height, width = size
    left, down = portrait.head_offset(height, width)
    half = portrait.shoulders(height - down)
    box = [left + MIDDLE - half, top + shift[1], left + MIDDLE + half, height]
    return np.clip(box, 0, [width - 1, height - 1, width - 1, height - 1])
