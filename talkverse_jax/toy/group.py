"""Several people in one picture: who they are, where they stand, what each says, and the film of it."""

import dataclasses

import numpy as np
from PIL import Image

from talkverse_jax.toy import portrait
from talkverse_jax.toy.actor import SCALE, Actor, moved
from talkverse_jax.toy.film import Film, taken, units_of
from talkverse_jax.toy.person import Person, draw_person
from talkverse_jax.toy.portrait import BODY_MARGIN, UNITS
from talkverse_jax.toy.speech import FPS, RATE, Speech, Turn, speak
from talkverse_jax.toy.timbre import Timbre, draw_voice

_HEAD = 97.0  # units: the widest head, with its hair
_SHARE = 0.86  # of its part of the picture that such a head takes
_LARGEST = 0.9  # units of the picture a unit of a person
_APART = 1.12  # the least ratio of the pitches of two voices
_TRIES = 40  # after which a voice may be like another


@dataclasses.dataclass(frozen=True)
class Participant:
    """One of them.

    Attributes:
      zoom: how large, in units of the picture a unit of the person.
      corner: where the person's square begins (right, down), in units of the picture.
      box: the part of this square that is in the person's own part of the picture: rows top .. bottom - 1, columns
        left .. right - 1, in pixels.
      turns: when the person speaks; none of one who only listens.
    """

    person: Person
    voice: Timbre
    zoom: float
    corner: tuple[float, float]
    box: tuple[int, int, int, int]
    turns: tuple[Turn, ...]


def draw_members(rng: np.random.Generator, turns: list[list[Turn]], size: tuple[int, int]) -> tuple[Participant, ...]:
    """As many people as there are lists of turns, from left to right, each in a part of the picture of its own.

    Args:
      size: (H, W) of the picture in pixels.
    """
    people: list[Person] = []
    voices: list[Timbre] = []
    for _ in turns:
        people.append(_unlike(rng, people))
        voices.append(_another(rng, voices))
    height, width = units_of(size)
    part, unit = width / len(turns), UNITS / min(size)
    members = []
    for number, (person, voice, said) in enumerate(zip(people, voices, turns)):
        zoom = min(_LARGEST, _SHARE * part / _HEAD) * float(rng.uniform(0.92, 1.0))
        room = part - zoom * _HEAD
        left = (number + 0.5) * part - zoom * UNITS / 2 + float(rng.uniform(-0.4, 0.4)) * room
        top = float(rng.uniform(0.25, 0.6)) * (height - zoom * UNITS)
        columns = max(number * part, left), min((number + 1) * part, left + zoom * UNITS)
        sides = top, columns[0], top + zoom * UNITS, columns[1]
        above, before, below, behind = (round(side / unit) for side in sides)
        box = above, before, below, behind
        members.append(Participant(person, voice, zoom, (left, top), box, tuple(said)))
    return tuple(members)


def _unlike(rng: np.random.Generator, others: list[Person]) -> Person:
    """Somebody whom a caption can tell from the others, in the same room."""
    while True:
        drawn = draw_person(rng)
        if all((drawn.hair, drawn.style) != (o.hair, o.style) and drawn.clothes != o.clothes for o in others):
            break
    room = others[0] if others else drawn
    return dataclasses.replace(drawn, wall=room.wall, pattern=room.pattern)


def _another(rng: np.random.Generator, others: list[Timbre]) -> Timbre:
    """A voice of another pitch than the others."""
    drawn = draw_voice(rng)
    for _ in range(_TRIES):
        if all(abs(np.log(drawn.pitch / other.pitch)) > np.log(_APART) for other in others):
            break
        drawn = draw_voice(rng)
    return drawn


def say(member: Participant, rng: np.random.Generator, seconds: float) -> Speech:
    """What somebody says in a video of so many seconds."""
    if member.turns:
        return speak(rng, seconds, member.voice, member.turns)
    frames = round(seconds * FPS)
    return Speech(np.zeros(round(seconds * RATE), np.float32), np.zeros(frames), np.full(frames, 0.95))


def group_film(
    members: tuple[Participant, ...],
    speeches: list[Speech],
    room: np.random.Generator,
    moves: list[np.random.Generator],
    size: tuple[int, int],
) -> Film:
    """The film of them; who stands further to the right is drawn later, and heads after all bodies.

    Args:
      room, moves: what the wall, and how each person moves, are drawn from.
      size: (H, W) of the pictures in pixels.
    """
    height, width = units_of(size)
    scene = portrait.room(members[0].person, room, height, width, SCALE)
    actors = []
    for member, speech, rng in zip(members, speeches, moves, strict=True):
        corner = np.array(member.corner)
        shift = corner / member.zoom - [BODY_MARGIN, 0]
        scene = Image.alpha_composite(
            scene, moved(portrait.body(member.person, SCALE), 0, shift, member.zoom, scene.size)
        )
        actors.append(Actor(member.person, speech, rng, corner, member.zoom))
    return taken(scene, actors, size)
