"""Videos of several people of the toy world, as files: beside each its keypoints and first picture, a sound of every
person who speaks in it, and what `sample` is to be told so that the people of the picture say these sounds."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from talkverse_jax.core.options import NO_FILE
from talkverse_jax.core.paths import replacing, write_json
from talkverse_jax.helpers.speech.engine import Utterance
from talkverse_jax.helpers.speech.formats import encode
from talkverse_jax.media.buckets import BUCKETS
from talkverse_jax.toy.files import write_film
from talkverse_jax.toy.film import Film
from talkverse_jax.toy.group import Participant, draw_members, group_film, say
from talkverse_jax.toy.person import group_caption
from talkverse_jax.toy.speech import FPS, RATE, Speech
from talkverse_jax.toy.turns import draw_turns

BUCKET = "toy-people"

_LOUDEST = 0.95
_USUAL = 2  # people: for more `sample` must be told


@dataclasses.dataclass(frozen=True, eq=False)
class GroupClip:
    """A video before it is a file."""

    speeches: list[Speech]
    film: Film


@dataclasses.dataclass(frozen=True)
class Group:
    """What a video is drawn from.

    Attributes:
      key: seeds of the video; all that is drawn is a function of them.
      size: (H, W) in pixels.
    """

    key: tuple[int, ...]
    seconds: float
    size: tuple[int, int]
    members: tuple[Participant, ...]

    @classmethod
    def drawn(cls, key: Sequence[int], people: Sequence[int], seconds: float) -> "Group":
        """A group of so many people, or by lot of one of these numbers."""
        rng = np.random.default_rng([*key, 0])
        count = int(rng.choice(people))
        size = BUCKETS[BUCKET][0.67 if count <= 2 else 0.5]
        turns = draw_turns(rng, count, seconds)
        return cls(tuple(key), seconds, size, draw_members(rng, turns, size))

    def played(self) -> GroupClip:
        """All of them speak."""
        words, moves = ([self._stream(part, number) for number in range(len(self.members))] for part in (1, 2))
        speeches = [say(member, rng, self.seconds) for member, rng in zip(self.members, words)]
        return GroupClip(speeches, group_film(self.members, speeches, self._stream(3, 0), moves, self.size))

    def _stream(self, part: int, number: int) -> np.random.Generator:
        return np.random.default_rng([*self.key, part, number])

    @property
    def caption(self) -> str:
        return group_caption([member.person for member in self.members])

    def row(self, video: str) -> dict[str, object]:
        """Of the metadata; beside the video's path are those of the sounds."""
        return {
            "video_path": video,
            "caption": self.caption,
            "fps": FPS,
            "scenes": "",
            "sounds": ";".join(self._sounds(video)),
            "boxes": ";".join(",".join(map(str, member.box)) for member in self.members),
        }

    def write(self, path: Path) -> None:
        """Write all files; the video comes last."""
        clip = self.played()
        sounds = self._sounds(path.name)
        for name, speech in zip(sounds, clip.speeches):
            if name != NO_FILE:
                with replacing(path.with_name(name)) as partial:
                    partial.write_bytes(encode(Utterance(speech.sound, RATE), "flac"))
        write_json(path.with_suffix(".json"), self._told(path, sounds))
        write_film(clip.film, mixed(clip.speeches), path)

    def _sounds(self, video: str) -> list[str]:
        stem = video.removesuffix(".mp4")
        return [f"{stem}_{number}.flac" if m.turns else NO_FILE for number, m in enumerate(self.members, 1)]

    def _told(self, path: Path, sounds: list[str]) -> dict[str, object]:
        people = [
            {"audio": None if name == NO_FILE else name, "bbox": list(member.box)}
            for name, member in zip(sounds, self.members)
        ]
        told: dict[str, object] = {"prompt": self.caption, "image": path.with_suffix(".png").name, "people": people}
        return told | ({"speakers": len(people)} if len(people) > _USUAL else {})


def mixed(speeches: Sequence[Speech]) -> Float32[np.ndarray, " n"]:
    """All of them at once; quieter where that would be too loud."""
    mix = np.sum([speech.sound for speech in speeches], axis=0)
    return (mix / max(1.0, float(np.abs(mix).max()) / _LOUDEST)).astype(np.float32)
