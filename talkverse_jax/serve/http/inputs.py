"""The files of a request for a video: taken out of it, looked at, and named as the job has them."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from talkverse_jax.pipeline.request import SpeakerFiles
from talkverse_jax.serve.http.checker import Checker, CheckFailed
from talkverse_jax.serve.http.errors import Fault, said
from talkverse_jax.serve.http.field_table import ONLY_PICTURES, ONLY_VIDEOS, Field
from talkverse_jax.serve.http.fields import VideoRequest
from talkverse_jax.serve.http.kinds import Kind
from talkverse_jax.serve.http.multipart import Part
from talkverse_jax.serve.http.references import Reference, References
from talkverse_jax.serve.http.values import box_of, value_of

_PICTURES: dict[str, tuple[Kind, ...]] = {ONLY_PICTURES: ("picture",), ONLY_VIDEOS: ("film",)}
_SOUNDS: tuple[Kind, ...] = ("sound", "film")
OWN_SOUND = "own sound"  # of a video, among the facts
_MOST_SPEAKERS = 16
_OF_A_SPEAKER = ("audio", "mask", "bbox")
_FILES_OF_A_SPEAKER: dict[str, tuple[Kind, ...]] = {"audio": _SOUNDS, "mask": ("picture",)}
_CODES = {
    ("too_long", "sound"): "sound_too_long",
    ("too_long", "film"): "video_too_large",
    ("too_large", "picture"): "image_too_large",
    ("too_large", "film"): "video_too_large",
    ("too_large", "sound"): "unusable_media",
}


@dataclass(frozen=True)
class WantedFile:
    """A file that a request has to bring.

    Attributes:
      name: of our copy.
      given: what the client gave.
      allowed: kinds that it may be of.
      read_as: how it is looked at; a film is, for its sound or its pictures.
    """

    name: str
    given: Any
    param: str
    allowed: tuple[Kind, ...]
    read_as: Kind | None = None


@dataclass(frozen=True)
class JobFiles:
    """The files of a job, as they are on the disk and as they were found.

    Attributes:
      files: by name of our copy.
      facts: what a look at each told.
      people: of the picture, in their order, by the names of `files`.
    """

    files: dict[str, Reference]
    facts: dict[str, dict[str, Any]]
    people: tuple[SpeakerFiles, ...]

    @property
    def is_film(self) -> bool:
        """Whether a video is to be dubbed."""
        return self.files["image"].kind == "film"

    def digests(self) -> dict[str, str]:
        return {name: each.sha256 for name, each in self.files.items()}


def wanted(asked: VideoRequest, dubs: bool) -> tuple[list[WantedFile], tuple[SpeakerFiles, ...]]:
    """The files that a request brings, in the order of its fields, and the people of its picture.

    Args:
      dubs: whether a video can be given in place of the picture.

    Raises:
      Fault: the speakers are none.
    """
    param = asked.param("input_reference")
    kinds = _PICTURES.get(param, ("picture", "film") if dubs else ("picture",))
    found = [WantedFile("image", asked.files["input_reference"], param, kinds)]
    if "speakers" in asked.files:
        files, people = _speakers(asked.files["speakers"])
        return [*found, *files], people
    sounds = []
    for field, name in (("audio_reference", "audio"), ("audio_reference_2", "audio2")):
        if field in asked.files:
            found.append(WantedFile(name, asked.files[field], asked.param(field), _SOUNDS, "sound"))
            sounds.append(name)
    return found, speaking(sounds, _boxes(asked.values.get("bbox", {})))


def speaking(sounds: Sequence[str | None], boxes: Sequence[str | None]) -> tuple[SpeakerFiles, ...]:
    """The people who say these sounds, and those of further boxes, who say nothing."""
    return tuple(SpeakerFiles(sound, bbox=box) for sound, box in itertools.zip_longest(sounds, boxes))


def _boxes(given: Mapping[str, Any]) -> list[str]:
    people = [f"person{number}" for number in range(1, len(given) + 1)]
    for name in given:
        if name not in people:
            raise Fault("invalid_value", f"bbox: {said(name)}: give {', '.join(people)}", said(f"bbox.{name}"))
    return [box_of(given[name], f"bbox.{name}") for name in people]


def _speakers(given: Any) -> tuple[list[WantedFile], tuple[SpeakerFiles, ...]]:
    """The files of `{"1": {"audio", "mask", "bbox"}, "2": ...}`, and the people in their order."""
    if isinstance(given, Part):
        given = value_of(Field("speakers", "object"), given, "speakers")
    if not isinstance(given, dict):
        raise Fault("invalid_type", "speakers: give an object keyed 1, 2, ...", "speakers")
    names = [str(number) for number in range(1, len(given) + 1)]
    if not names or len(names) > _MOST_SPEAKERS or set(names) != given.keys():
        raise Fault("invalid_value", f"speakers: give an object keyed 1 to at most {_MOST_SPEAKERS}", "speakers")
    found: list[WantedFile] = []
    people = []
    for number in names:
        param = f"speakers.{number}"
        person = given[number]
        if isinstance(person, Part):
            person = value_of(Field(param, "object"), person, param)
        if not isinstance(person, dict):
            raise Fault("invalid_type", f"{param}: give an object with audio, and mask or bbox", param)
        for name in person:
            if name not in _OF_A_SPEAKER:
                inside = said(f"{param}.{name}")
                raise Fault("unknown_parameter", f"{inside}: give audio, mask, bbox", inside)
        files: dict[str, str | None] = dict.fromkeys(_FILES_OF_A_SPEAKER)
        for name, kinds in _FILES_OF_A_SPEAKER.items():
            if (value := person.get(name)) is not None:
                files[name] = f"{name}{number}"
                read_as: Kind | None = "sound" if name == "audio" else None
                found.append(WantedFile(f"{name}{number}", value, f"{param}.{name}", kinds, read_as))
        box = person.get("bbox")
        box = None if box is None else box_of(box, f"{param}.bbox")
        people.append(SpeakerFiles(files["audio"], files["mask"], box))
    return found, tuple(people)


class Looker:
    """Takes the files of requests and looks at them."""

    def __init__(self, references: References, checker: Checker, pixels: int, seconds: float):
        self._references, self._checker = references, checker
        self.limits = {"pixels": pixels, "seconds": seconds}

    async def take(self, each: WantedFile, folder: Path) -> tuple[Reference, dict[str, Any]]:
        """A file in the folder, and what it is like.

        Raises:
          Fault: there is none, or it cannot be used.
        """
        found = await self._references.take(each.given, each.param, folder / each.name, each.allowed)
        return found, await self.look(folder, each.name, each.param, each.read_as or found.kind)

    async def look(self, folder: Path, name: str, param: str, do: str, **more: Any) -> dict[str, Any]:
        """What a file of ours is like, read as one of that kind.

        Raises:
          Fault: it cannot be used.
        """
        answer = await self.ask(folder, param, do, name=name, limits=self.limits, **more)
        if (fault := answer.get("fault")) is None:
            return answer
        code = fault["code"]
        code = _CODES.get((code, do), "unreadable_media" if code == "refused" else code)
        raise Fault(code, f"{param}: {fault['message'].removeprefix(f'{name}: ')}", param)

    async def ask(self, folder: Path, param: str, do: str, **arguments: Any) -> dict[str, Any]:
        """The answer of a process that looks at files.

        Raises:
          Fault: it died of the file, or took too long.
        """
        try:
            return await self._checker.ask(folder, do, **arguments)
        except CheckFailed:
            message = f"{param}: could not be read in time; save it again, in another format"
            raise Fault("unreadable_media", message, param) from None
