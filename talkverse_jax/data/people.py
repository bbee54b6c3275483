"""Who speaks in a video of several people: a sound and a place for each, from two columns of the metadata.

`sounds` names a file for each person, with semicolons between them, whose first sample belongs to the video's first
picture; `none` is somebody who says nothing. `boxes` has as many places, top,left,bottom,right in pixels of the video,
which hold for all of it; one person alone needs none.

Shapes: n samples at 16 kHz, h w latent grid.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, UInt8

from talkverse_jax.core import files
from talkverse_jax.core.errors import UserError
from talkverse_jax.core.options import NO_FILE
from talkverse_jax.data import identity
from talkverse_jax.media.audio import read_audio
from talkverse_jax.media.bad_sample import BadSample
from talkverse_jax.media.fit import Framing
from talkverse_jax.media.loudness import loudness
from talkverse_jax.media.video_reader import SAMPLE_RATE


class PersonEntry(NamedTuple):
    """Of a video.

    Attributes:
      sound: where the file is; "" where nothing is said.
      box: (top, left, bottom, right) in pixels of the file; () where nobody asked.
      content: a hash of the sound (see `identity.content`).
    """

    sound: str
    box: tuple[float, ...]
    content: str


class Speaker(NamedTuple):
    """A person in a window.

    Attributes:
      waveform: what is said in it.
      lufs: how loud the whole sound is; minus infinity of silence.
      place: 1 where the person is, 0 elsewhere; all of it where the person is alone.
    """

    waveform: Float32[np.ndarray, " n"]
    lufs: float
    place: UInt8[np.ndarray, "h w"]


def sound_files(sounds: str, base: str) -> list[str]:
    """The files that a cell of the column names; "" where nothing is said."""
    names = [name.strip() for name in sounds.split(";")] if sounds else []
    return ["" if name == NO_FILE else files.join(base, name) for name in names]


def read_people(sounds: str, boxes: str, base: str) -> tuple[PersonEntry, ...]:
    """The people of a row; nobody where it has no sounds but the video's own.

    Args:
      sounds, boxes: the cells.
      base: the folder that the sounds are relative to.

    Raises:
      BadSample: the cells do not fit together, or a sound cannot be read.
    """
    paths, places = sound_files(sounds, base), [_box(text) for text in boxes.split(";")] if boxes else []
    if len(places) != len(paths) and (places or len(paths) > 1):
        raise BadSample("people unclear", f"sounds: {len(paths)}, boxes: {len(places)}; give one of each for each")
    places = places or [()]
    try:
        contents = [identity.content(path) if path else "" for path in paths]
    except UserError as error:
        raise BadSample("no sound file", str(error)) from None
    return tuple(map(PersonEntry, paths, places, contents))


def speaker(
    person: PersonEntry, start: float, samples: int, framed: Framing, stretch: tuple[float, float], stride: int
) -> Speaker:
    """A person in a window.

    Args:
      start: seconds from the video's first picture.
      framed: how its pictures become those of the sample.
      stretch: (down, across), by which the file's pixels were stretched before.
      stride: pixels a side of a latent.

    Raises:
      BadSample: the sound cannot be read, or the person is outside of what is left of the pictures.
    """
    waveform, lufs = np.zeros(samples, np.float32), -np.inf
    if person.sound:
        try:
            whole = read_audio(person.sound, SAMPLE_RATE).samples
            lufs = loudness([whole], SAMPLE_RATE, person.sound)
        except UserError as error:
            raise BadSample("sound not readable", str(error)) from None
        first = round(start * SAMPLE_RATE)
        said = whole[first : first + samples]
        waveform[: len(said)] = said
    return Speaker(waveform, lufs, _place(person, framed, stretch, stride))


def _place(person: PersonEntry, framed: Framing, stretch: tuple[float, float], stride: int) -> UInt8[np.ndarray, "h w"]:
    """1 in the cells whose first pixel is in the box."""
    inside = [np.ones(length // stride, bool) for length in framed.frame]
    if person.box:
        pixels = [
            (np.arange(0, length, stride) + corner) / (framed.scale * wider)
            for length, corner, wider in zip(framed.frame, framed.corner, stretch)
        ]
        inside = [(at >= low) & (at < high) for at, low, high in zip(pixels, person.box[:2], person.box[2:])]
    if not (inside[0].any() and inside[1].any()):
        raise BadSample("person not in the picture", f"box {','.join(f'{side:g}' for side in person.box)}")
    return (inside[0][:, None] & inside[1]).astype(np.uint8)


def _box(text: str) -> tuple[float, ...]:
    try:
        top, left, bottom, right = map(float, text.split(","))
    except ValueError:
        raise BadSample("people unclear", f"box {text.strip()}: give top,left,bottom,right in pixels") from None
    if not (0 <= top < bottom < np.inf and 0 <= left < right < np.inf):
        raise BadSample("people unclear", f"box {text.strip()}: give top,left,bottom,right in pixels") from None
    return top, left, bottom, right
