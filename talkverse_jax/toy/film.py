"""A person speaks: frames, and where face and body are in each of them."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, UInt8
from PIL import Image, ImageFilter

from talkverse_jax.toy import portrait
from talkverse_jax.toy.actor import SCALE, Actor
from talkverse_jax.toy.person import Person
from talkverse_jax.toy.portrait import UNITS
from talkverse_jax.toy.speech import Speech

_SOFTNESS = 0.7 / 128  # the lens: deviation of a point's picture, of the short side


@dataclass(frozen=True, eq=False)
class Film:
    """Frames at 25 a second, and what is known of the N people in them.

    Attributes:
      keypoints: x, y in pixels and confidence of 133 whole-body points; the 68 of the face are there, the
        others are 0.
      bodies: the box (left, top, right, bottom) of what is seen of a person.
      opening: of the mouth, in pixels.
    """

    frames: UInt8[np.ndarray, "T H W 3"]
    keypoints: Float32[np.ndarray, "T N 133 3"]
    bodies: Float32[np.ndarray, "T N 4"]
    opening: Float[np.ndarray, "T N"]


def film(person: Person, speech: Speech, rng: np.random.Generator, size: tuple[int, int]) -> Film:
    """The person says that.

    Args:
      size: (H, W) of the pictures; the short side shows `UNITS` units.
    """
    height, width = units_of(size)
    room = portrait.scene(person, rng, height, width, SCALE)
    actor = Actor(person, speech, rng, np.array(portrait.head_offset(height, width)))
    return taken(room, [actor], size)


def units_of(size: tuple[int, int]) -> tuple[float, float]:
    """Height and width in units of pictures of that size (H, W) in pixels."""
    zoom = min(size) / UNITS  # pixels a unit
    return size[0] / zoom, size[1] / zoom


def taken(room: Image.Image, actors: list[Actor], size: tuple[int, int]) -> Film:
    """The film of people in front of what does not move.

    Args:
      room: RGBA, `SCALE` pixels a unit.
      size: (H, W) of the pictures in pixels.
    """
    zoom, units, people = min(size) / UNITS, units_of(size), len(actors)
    count = len(actors[0].speech.opening)
    frames = np.empty((count, *size, 3), np.uint8)
    keypoints = np.zeros((count, people, 133, 3), np.float32)
    bodies = np.zeros((count, people, 4), np.float32)
    for frame in range(count):
        picture = room
        for number, actor in enumerate(actors):
            picture = Image.alpha_composite(picture, actor.shown(frame, room.size))
            keypoints[frame, number] = actor.keypoints(frame) * [zoom, zoom, 1]
            bodies[frame, number] = actor.body(frame, units) * zoom
        sharp = picture.convert("RGB").resize((size[1], size[0]), Image.Resampling.BOX)
        frames[frame] = np.asarray(sharp.filter(ImageFilter.GaussianBlur(_SOFTNESS * min(size))))
    return Film(frames, keypoints, bodies, np.stack([actor.opening * zoom for actor in actors], axis=1))
