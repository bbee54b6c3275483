"""Videos measured: the figures of each and of all, kept as `evaluation.json` with a picture, `evaluation.png`, and, of
several people, `people.png`."""

import dataclasses
import importlib
import json
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from talkverse_jax.core.errors import UserError
from talkverse_jax.core.paths import check_apart, new_folder, on_disk, write_json
from talkverse_jax.data.people import PersonEntry
from talkverse_jax.evaluate.face import FaceReader, read_face
from talkverse_jax.evaluate.measures import FEWER, Measured, measure, read_talk, starts_of
from talkverse_jax.evaluate.page import draw_page
from talkverse_jax.evaluate.people import apart
from talkverse_jax.evaluate.people_page import Pictured, draw_people
from talkverse_jax.evaluate.report import Record, record, summary
from talkverse_jax.media.buckets import Fit
from talkverse_jax.media.image import read_image
from talkverse_jax.media.video_writer import is_unfinished_name

_FIGURES, _PAGE, _PEOPLE = "evaluation.json", "evaluation.png", "people.png"


@dataclass(frozen=True)
class Evaluation:
    """The figures of each video, and those of all; each person of a video of several is a video here.

    Attributes:
      pictured: the videos whose people are told apart.
      by_people: a summary for each number of people in a picture, by that number.
    """

    videos: tuple[Measured, ...]
    records: tuple[Record, ...]
    summary: Record
    pictured: tuple[Pictured, ...] = ()
    by_people: Mapping[int, Record] = dataclasses.field(default_factory=dict)


def evaluate(
    videos: Sequence[str | Path],
    reference: str | Path | None = None,
    clip_frames: int | None = None,
    starts: Mapping[str, Sequence[int]] | None = None,
    reader: str | FaceReader = read_face,
    people: Mapping[str, Sequence[PersonEntry]] | None = None,
    watch: Callable[[Iterable[Path]], Iterable[Path]] = iter,
) -> Evaluation:
    """Measure videos; each is also heard with the sound of the one after it, and a person of several with those of the
    others.

    Args:
      videos: files, and folders whose mp4s are meant.
      reference: a picture, or a folder with a picture NAME.png for each NAME.mp4; each video's first frame
        where None. It is brought to a video's size as the record beside the video says (`fit`), if there is one.
      clip_frames: frames of a clip (the first shows 3 less, and those of a lead-in that the record beside the video
        tells); gives figures of first and later clips and of borders.
      starts: the same where clips are otherwise: by a video's name, the frames at which they begin, but for the first.
      reader: finds face and mouth, itself or as `module:function`.
      people: by a video's name, whose sounds and places are measured one by one.
      watch: passes the files on, one after the other as they are measured.

    Raises:
      UserError: a file is missing or cannot be used, or an option has no such value.
    """
    if clip_frames is not None and clip_frames <= FEWER:
        raise UserError(f"{clip_frames}: give the frames of a clip, more than {FEWER}", field="clip_frames")
    read = _reader(reader) if isinstance(reader, str) else reader
    single, together = [], []
    for file in watch(_files(videos)):
        picture = None if reference is None else read_image(_reference(Path(reference), file))
        settings = _settings(file)
        talk = read_talk(file, picture, _fit(settings))
        begin = (starts or {}).get(file.stem)
        if clip_frames:
            begin = starts_of(clip_frames, len(talk.frames), _lead_in(settings))
        if entries := (people or {}).get(file.stem):
            persons = tuple(measure(each, read, begin) for each in apart(talk, entries))
            records = tuple(
                record(one, [other for other in persons if other is not one], together=True) for one in persons
            )
            together.append(Pictured.of(talk, persons, records))
        else:
            single.append(measure(talk, read, begin))
    others = single[1:] + single[:1] if len(single) > 1 else []
    records = [record(one, others[number : number + 1]) for number, one in enumerate(single)]
    records += [each for one in together for each in one.records]
    counts = sorted({len(one.persons) for one in together})
    return Evaluation(
        videos=(*single, *(person for one in together for person in one.persons)),
        records=tuple(records),
        summary=summary(records),
        pictured=tuple(together),
        by_people={
            count: summary([each for one in together if len(one.persons) == count for each in one.records])
            for count in counts
        },
    )


def _files(videos: Sequence[str | Path]) -> list[Path]:
    found = []
    for given in map(on_disk, videos):
        inside = sorted(given.glob("*.mp4")) if given.is_dir() else [given]
        if not inside:
            raise UserError(f"{given}: no mp4 in it; give videos, or folders with videos")
        found += [file for file in inside if not is_unfinished_name(file)]
    return found


def _reference(given: Path, video: Path) -> Path:
    place = on_disk(given)
    return place / f"{video.stem}.png" if place.is_dir() else given


def _settings(video: Path) -> Mapping[str, Any]:
    """How a video was made, as the record beside it says; nothing where there is none, or one of another program."""
    try:
        settings = json.loads(video.with_suffix(".json").read_bytes())["settings"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return settings if isinstance(settings, dict) else {}


def _fit(settings: Mapping[str, Any]) -> Fit:
    fit: Any = settings.get("fit")
    return fit if fit in typing.get_args(Fit) else "pad"


def _lead_in(settings: Mapping[str, Any]) -> int:
    frames = settings.get("lead_in_frames")
    return frames if isinstance(frames, int) else 0


def _reader(name: str) -> FaceReader:
    module, _, function = name.partition(":")
    try:
        return getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(f"{name}: {error}; give module:function, which can be imported", field="reader") from None


def check_folder(folder: str | Path, videos: Sequence[str | Path], reference: str | Path | None = None) -> None:
    """Make sure, before anything is measured, that what `write` writes takes the place of nothing that is read.

    Raises:
      UserError: it would; or there are no such videos.
    """
    read: list[tuple[str, str | Path]] = []
    for file in _files(videos):
        read += [("VIDEO", file), ("the record of a VIDEO", file.with_suffix(".json"))]
        if reference is not None:
            read.append(("--reference", _reference(Path(reference), file)))
    check_apart([Path(folder) / name for name in (_FIGURES, _PAGE, _PEOPLE)], read, "give another --output")


def write(evaluation: Evaluation, folder: str | Path) -> None:
    """Write `evaluation.json` and `evaluation.png`; of videos of several people `people.png`, too."""
    target = new_folder(folder)
    figures = {"summary": evaluation.summary, "videos": evaluation.records}
    if evaluation.pictured:
        figures["by_people"] = {str(count): each for count, each in evaluation.by_people.items()}
        draw_people(evaluation.pictured, target / _PEOPLE)
    write_json(target / _FIGURES, figures)
    draw_page(evaluation.videos, evaluation.records, target / _PAGE)
