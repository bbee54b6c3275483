"""Measures talking videos: `python -m talkverse_jax.evaluate.evaluate VIDEO... [--clip_frames N] [--output DIR]`,
or those that a model makes of a set of people: `--weights DIR --set FILE --output DIR`.

From the files alone: how the opening of the mouth, read from the pixels, goes with the loudness of the sound, and
with the sound of another video; how much the face stays that of the reference picture; how colour, sharpness and
face drift from the first five seconds to the last, and how the picture jumps where clips meet. Prints the figures;
`--output` keeps them as `evaluation.json` with a picture, `evaluation.png`.
"""

import argparse
import importlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from talkverse_jax.core.errors import UserError, naming, run_command
from talkverse_jax.core.options import CommandParser, path
from talkverse_jax.core.paths import new_folder
from talkverse_jax.evaluate.face import FaceReader
from talkverse_jax.evaluate.measures import FEWER, Measured, measure, read_talk
from talkverse_jax.evaluate.page import draw_page
from talkverse_jax.evaluate.report import Record, record, summary, table
from talkverse_jax.media.image import read_image

READER = "talkverse_jax.evaluate.face:read_face"


@dataclass(frozen=True)
class Evaluation:
    """The figures of each video, and those of all."""

    videos: tuple[Measured, ...]
    records: tuple[Record, ...]
    summary: Record


def evaluate(
    videos: Sequence[str | Path],
    reference: str | Path | None = None,
    clip_frames: int | None = None,
    reader: str = READER,
) -> Evaluation:
    """Measure videos; each is also heard with the sound of the one after it.

    Args:
      videos: files, and folders whose mp4s are meant.
      reference: a picture, or a folder with a picture NAME.png for each NAME.mp4; each video's first frame
        where None.
      clip_frames: frames of a clip (the first shows 3 less); makes figures for first and later clips and borders.
      reader: `module:function`, a `FaceReader`.

    Raises:
      UserError: a file is missing or cannot be used, or an option has no such value.
    """
    if clip_frames is not None and clip_frames <= FEWER:
        raise UserError(f"--clip_frames {clip_frames}: give the frames of a clip, more than {FEWER}")
    read = _reader(reader)
    measured = []
    for file in tqdm(_files(videos), "videos", unit="video", dynamic_ncols=True):
        picture = None if reference is None else read_image(_reference(Path(reference), file))
        measured.append(measure(read_talk(file, picture), read, clip_frames))
    others = measured[1:] + measured[:1] if len(measured) > 1 else [None]
    records = tuple(record(*pair) for pair in zip(measured, others))
    return Evaluation(tuple(measured), records, summary(records))


def _files(videos: Sequence[str | Path]) -> list[Path]:
    found = []
    for given in map(Path, videos):
        inside = sorted(given.glob("*.mp4")) if given.is_dir() else [given]
        if not inside:
            raise UserError(f"{given}: no mp4 in it; give videos, or folders with videos")
        found += [file for file in inside if not file.name.endswith(".partial.mp4")]
    return found


def _reference(given: Path, video: Path) -> Path:
    return given / f"{video.stem}.png" if given.is_dir() else given


def _reader(name: str) -> FaceReader:
    module, _, function = name.partition(":")
    try:
        return getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(f"--reader {name}: {error}; give module:function of something importable") from None


def write(evaluation: Evaluation, folder: str | Path) -> None:
    """Write `evaluation.json` and `evaluation.png`."""
    target = new_folder(folder)
    file = target / "evaluation.json"
    with naming(file):
        figures = {"summary": evaluation.summary, "videos": evaluation.records}
        file.write_text(json.dumps(figures, indent=1) + "\n")
    draw_page(evaluation.videos, evaluation.records, target / "evaluation.png")


def _make_videos(given: argparse.Namespace) -> None:
    """Make the videos that the options ask for, and have these measured."""
    if given.videos or given.reference or given.clip_frames:
        raise UserError(
            "--weights: makes the videos, from pictures of the set; leave out VIDEO, --reference and --clip_frames"
        )
    if not (given.set and given.output):
        raise UserError("--weights: needs --set, whose people talk, and --output, where the videos go")
    from talkverse_jax.core import compile_cache
    from talkverse_jax.evaluate.speak import speak  # loads the models' code

    compile_cache.enable()
    made = speak(given.weights, given.set, given.config, Path(given.output) / "videos")
    given.videos = [one.output for one in made]
    given.reference = Path(made[0].image).parent
    given.clip_frames = made[0].infer_frames


def main(argv: list[str] | None = None) -> None:
    parser = CommandParser(
        prog="talkverse_jax.evaluate.evaluate", description="Measure talking videos, from the files alone."
    )
    parser.add_argument("videos", nargs="*", type=path, metavar="VIDEO", help="video files, or folders of mp4s")
    parser.add_argument(
        "--weights",
        type=path,
        metavar="DIR",
        help="make the videos, with weights that convert_torch_weights.py wrote",
    )
    parser.add_argument(
        "--set",
        type=path,
        metavar="FILE",
        help="of whom: a CSV with video_path and caption, such as held_out.csv of talkverse_jax.toy.make; each "
        "video's sound and the picture NAME.png beside it are taken",
    )
    parser.add_argument(
        "--config", type=path, metavar="FILE", help="TOML file of sample.py, whose settings make the videos"
    )
    parser.add_argument(
        "--reference",
        type=path,
        metavar="FILE",
        help="the picture of who should be seen, or a folder with NAME.png for each (default: first frames)",
    )
    parser.add_argument(
        "--clip_frames",
        type=int,
        metavar="N",
        help="frames of a clip, sample.py's --infer_frames: tells first and later clips apart, and their borders",
    )
    parser.add_argument(
        "--reader",
        default=READER,
        metavar="NAME",
        help="finds face and mouth: module:function (default: one for drawn heads that face the viewer)",
    )
    parser.add_argument("--output", type=path, metavar="DIR", help="folder for evaluation.json and evaluation.png")
    given = parser.parse_args(argv)
    if given.weights:
        _make_videos(given)
    elif given.set or given.config:
        raise UserError("--set, --config: tell what --weights makes; give these too")
    if not given.videos:
        raise UserError("no videos; give files or folders, or --weights and --set")
    evaluation = evaluate(given.videos, given.reference, given.clip_frames, given.reader)
    print(table(evaluation.summary))
    if given.output:
        write(evaluation, given.output)


if __name__ == "__main__":
    run_command(main)
