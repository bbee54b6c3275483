"""Several people of one video, each measured as if the video were of nobody else: the part of its pictures that is
theirs, with their own sound."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from talkverse_jax.core.errors import UserError
from talkverse_jax.data.metadata import read_metadata
from talkverse_jax.data.people import PersonEntry, read_people
from talkverse_jax.evaluate.measures import Talk
from talkverse_jax.evaluate.sound import RATE, loudness
from talkverse_jax.media.audio import read_audio
from talkverse_jax.media.bad_sample import BadSample


def people_of(metadata: str) -> dict[str, tuple[PersonEntry, ...]]:
    """The people of each video of a set, by its name; of those with sounds and boxes.

    Raises:
      UserError: the metadata cannot be used, or a sound is missing.
    """
    found = {}
    for row in read_metadata([metadata], str(Path(metadata).parent)):
        try:
            people = read_people(row.sounds, row.boxes, row.base)
        except BadSample as error:
            raise UserError(f"{row.where}: {error}") from None
        if people and all(person.box for person in people):
            found[row.name] = people
    return found


def apart(talk: Talk, people: Sequence[PersonEntry]) -> list[Talk]:
    """A talk of each person.

    Raises:
      UserError: a box is outside the pictures, or a sound cannot be read.
    """
    height, width = talk.frames.shape[1:3]
    talks = []
    for number, person in enumerate(people, 1):
        top, left, bottom, right = (round(side * talk.scale) for side in person.box)
        if not (0 <= top < bottom <= height and 0 <= left < right <= width):
            raise UserError(
                f"{talk.name}: person {number}: box {','.join(f'{side:g}' for side in person.box)} is not within the "
                f"video, which is {width / talk.scale:.0f} wide and {height / talk.scale:.0f} high; give boxes in its "
                "pixels"
            )
        inside = slice(top, bottom), slice(left, right)
        loud = np.zeros(len(talk.frames))
        if person.sound:
            loud = loudness(read_audio(person.sound, RATE).samples, talk.seconds)
        talks.append(
            dataclasses.replace(
                talk,
                name=f"{talk.name} person {number}",
                frames=talk.frames[:, *inside],
                loud=loud,
                reference=talk.reference[inside],
            )
        )
    return talks
