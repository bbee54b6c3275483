"""Videos to measure, made from weights: the people of a set, each with a first picture, a sound and a caption."""

import contextlib
import dataclasses
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from talkverse_jax.core.errors import UserError
from talkverse_jax.core.options import build
from talkverse_jax.core.paths import existing_file, new_folder, same_name
from talkverse_jax.data.metadata import Row, read_metadata
from talkverse_jax.data.people import sound_files
from talkverse_jax.pipeline import registry
from talkverse_jax.pipeline.events import Events
from talkverse_jax.pipeline.job import Job
from talkverse_jax.pipeline.machine import Machine, Weights
from talkverse_jax.pipeline.request import SpeakerFiles
from talkverse_jax.run import output
from talkverse_jax.run.worker import make_video


@dataclasses.dataclass(frozen=True)
class Spoken:
    """A video that was made.

    Attributes:
      starts: the frames of the video at which its clips begin, but for the first clip.
    """

    video: Path
    picture: Path
    starts: tuple[int, ...]


def speak(
    weights: Weights,
    machine: Machine,
    settings: Mapping[str, Any],
    metadata: str,
    folder: str | Path,
    listen: Callable[[], AbstractContextManager[Events]] = lambda: contextlib.nullcontext(Events()),
) -> list[Spoken]:
    """Make the videos of a set: its pictures say its sounds, with its captions as prompts. The models are loaded once.

    Args:
      settings: by the family's names; and of its files, what the set does not give.
      metadata: a CSV as of training data; beside each video lies its first picture, NAME.png.
      folder: for the videos.
      listen: gives the listener of each video.

    Raises:
      UserError: a file is missing or cannot be used, two videos of the set have one name, or one would take the place
        of a file that is read.
    """
    family, target = registry.family_of(weights.weights), new_folder(folder)
    module = registry.settings_of(family)
    groups = {"files": module.Files, "settings": module.Settings}
    jobs, pictures, names = [], [], set()
    for row in read_metadata([metadata], str(Path(metadata).parent)):
        if same_name(row.name) in names:
            raise UserError(f"{row.where}: another video of the set is called {row.name} too; rename one of them")
        names.add(same_name(row.name))
        pictures.append(existing_file(Path(row.video).with_suffix(".png"), "the picture of a person of the set"))
        made = build(groups, {**settings, **_told(module, row, str(pictures[-1]))}, metadata)
        jobs.append(Job.make(family, weights, machine, **made, output=str(target / f"{row.name}.mp4")))
    for job in jobs:
        output.check(job)
    pipeline = registry.find(family).load_pipeline(weights, machine, settings=jobs[0].settings, keep_encoders=True)
    spoken = []
    for job, picture in zip(jobs, pictures):
        with listen() as events:
            encoded = pipeline.encode(job, events)
            timeline = pipeline.timeline(encoded)
            video = make_video(pipeline, job, events, encoded=encoded)
        spoken.append(Spoken(video, picture, timeline.borders))
    return spoken


def _told(module: Any, row: Row, picture: str) -> dict[str, Any]:
    """The options of a row's video: one person says the video's sound, or each of several an own one.

    Raises:
      UserError: the family knows one speaker, or what the row says of several does not fit together.
    """
    if len(sounds := sound_files(row.sounds, row.base)) < 2:
        return module.of_person(picture, sounds[0] if sounds and sounds[0] else row.video, row.caption)
    if module.REQUEST.most_people is None:
        raise UserError(f"{row.where}: {len(sounds)} people; these weights make one person talk")
    boxes = row.boxes.split(";")
    if len(boxes) != len(sounds):
        raise UserError(f"{row.where}: sounds: {len(sounds)}, boxes: {len(boxes)}; give one of each for each")
    people = [SpeakerFiles(sound or None, bbox=box) for sound, box in zip(sounds, boxes)]
    most = {module.REQUEST.most_people: max(2, len(people))}
    return {**module.REQUEST.files(picture, people), "prompt": row.caption, **most}
