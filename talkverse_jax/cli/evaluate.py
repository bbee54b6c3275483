"""Measure talking videos from their files alone, or make the videos of a set of people and measure these.

It reads from the pixels how far the mouth is open and tells how that goes with the loudness of the sound, and with the
sound of another video; how much the face stays that of the reference picture; how colour, sharpness and face drift
from the first five seconds to the last; and how the picture jumps at the start, where clips meet and at keyframes.
Several people in one picture are measured one by one, each with the own sound.
"""

import dataclasses
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from talkverse_jax.cli import sample
from talkverse_jax.cli.families import with_settings_of
from talkverse_jax.cli.flags import Given, parse
from talkverse_jax.core import presets
from talkverse_jax.core.errors import UserError
from talkverse_jax.core.options import Groups, check_known, describe, option
from talkverse_jax.pipeline import registry

READER = "talkverse_jax.evaluate.face:read_face"


@dataclasses.dataclass(frozen=True)
class EvaluateOptions:
    """What is measured, and what of."""

    videos: tuple[str, ...] = option(
        "video files, or folders of mp4s", group="videos", metavar="VIDEO", positional=True, default=()
    )
    reference: str | None = option(
        "picture of the person who should be seen, or a folder with NAME.png for each NAME.mp4 (default: each video's "
        "first frame)",
        group="videos",
        metavar="FILE",
        default=None,
    )
    clip_frames: int | None = option(
        "frames of a clip, --infer_frames of sample; tells first and later clips and the borders of clips apart",
        group="videos",
        metavar="N",
        default=None,
    )
    people: str | None = option(
        "of several people in a picture, each measured by the own sound: a CSV with the columns sounds and boxes, such "
        "as of toy-world --people 2, which names the videos (default: that of --set)",
        group="videos",
        metavar="FILE",
        default=None,
    )
    weights: str | None = option(
        "make the videos with these converted weights", group="videos to make", metavar="DIR", default=None
    )
    set: str | None = option(
        "whom they show: a CSV with video_path and caption, such as held_out.csv of toy-world. The sound is that of "
        "each video, the picture is NAME.png beside it",
        group="videos to make",
        metavar="FILE",
        default=None,
    )
    config: str | None = option(
        "TOML file or preset of sample, whose settings make the videos",
        group="videos to make",
        metavar="FILE",
        default=None,
    )
    reader: str = option(
        "finds face and mouth: module:function; the default reads drawn heads that face the viewer",
        group="measuring",
        metavar="NAME",
        default=READER,
    )
    output: str | None = option(
        "folder for evaluation.json, evaluation.png and, of several people, people.png; and for the videos that are "
        "made",
        group="measuring",
        metavar="DIR",
        default=None,
    )

    def __post_init__(self):
        if self.weights:
            if self.videos or self.reference or self.clip_frames or self.people:
                raise UserError(
                    "makes the videos, from pictures of the set; leave out VIDEO, --reference, --clip_frames, --people",
                    field="weights",
                )
            if not (self.set and self.output):
                raise UserError("needs --set, whose people talk, and --output, where the videos go", field="weights")
        elif self.set or self.config:
            raise UserError("--set, --config: say which videos --weights makes; give --weights too")
        elif not self.videos:
            raise UserError("no videos; give files or folders, or --weights and --set")


def groups(family: str) -> Groups:
    """The options."""
    return {"evaluate": EvaluateOptions}


def main(argv: Sequence[str] | None, prog: str) -> None:
    asked = parse(groups(""), prog, __doc__ or "", argv, config=False)["evaluate"]
    made = _settings(asked, prog) if asked.weights else None

    from tqdm import tqdm

    from talkverse_jax.evaluate.evaluate import check_folder, evaluate, write
    from talkverse_jax.evaluate.people import people_of
    from talkverse_jax.evaluate.report import table

    videos, reference, starts = asked.videos, asked.reference, {}
    if made is not None:
        from talkverse_jax.cli.progress import TerminalEvents
        from talkverse_jax.core import compile_cache
        from talkverse_jax.evaluate.speak import speak

        compile_cache.enable()
        spoken = speak(**made, metadata=asked.set, folder=Path(asked.output) / "videos", listen=TerminalEvents)
        videos, reference = [one.video for one in spoken], spoken[0].picture.parent
        starts = {one.video.stem: one.starts for one in spoken}
    if asked.output:
        check_folder(asked.output, videos, reference)
    watch = partial(tqdm, desc="videos", unit="video", dynamic_ncols=True)
    metadata = asked.people or asked.set
    people = people_of(metadata) if metadata else {}
    evaluation = evaluate(videos, reference, asked.clip_frames, starts, asked.reader, people, watch)
    print(table(evaluation.summary))
    for count, each in evaluation.by_people.items() if len(evaluation.by_people) > 1 else ():
        print(f"\npictures of {count}\n{table(each)}")
    if asked.output:
        write(evaluation, asked.output)


def _settings(asked: EvaluateOptions, prog: str) -> dict[str, Any]:
    """What the videos are made with: a config of `sample`, but for what it says of a single video."""
    family = registry.family_of(asked.weights or "")
    every = sample.groups(family)
    values = presets.read(asked.config) if asked.config else {}
    check_known(every, values, str(asked.config))
    given = Given(prog, values | {"weights": asked.weights}, frozenset({"weights"}), asked.config)
    given = with_settings_of(asked.weights or "", given)
    made = given.build({"weights": every["weights"], "machine": every["machine"]})
    of_jobs = describe({"files": every["files"], "settings": every["settings"]})
    return made | {"settings": {each.name: given.values[each.name] for each in of_jobs if each.name in given.values}}
