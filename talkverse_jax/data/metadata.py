"""The metadata of a data set: CSV files with a row a video, as the original program reads them."""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from talkverse_jax.core import files
from talkverse_jax.core.errors import UserError
from talkverse_jax.core.reporting import SILENT, Reporter
from talkverse_jax.core.text import lines_of
from talkverse_jax.data.table import read_table
from talkverse_jax.media.frame_rate import FPS

REQUIRED = ("video_path", "caption")
_OTHERS = ("fps", "FPS", "scenes", "roi_path", "sounds", "boxes")
_MOST_FRAMES = 10**12  # in a scene's numbers; more would be no float
_TRIM = 4  # frames of the source left out on both sides of a cut


@dataclass(frozen=True)
class Row:
    """A video of the data set.

    Attributes:
      where: the file and the line, for messages.
      video_path: as the row has it, "" where it has none.
      video: where the file is.
      scenes: "start,end;start,end" in frames of the source, ends inclusive.
      fps: of the frames that `scenes` counts; 0 where the row has no number.
      roi_path: the keypoint file, where the row names one.
      base: the folder that the paths are relative to.
      dataset: the number of the file.
      sounds, boxes: of the people, where the row tells (see `data.people`).
    """

    where: str
    video_path: str
    video: str
    caption: str
    fps: float = 0.0
    scenes: str = ""
    roi_path: str = ""
    base: str = ""
    dataset: int = 0
    sounds: str = ""
    boxes: str = ""

    @property
    def name(self) -> str:
        """The video's id: its file name up to the first dot."""
        return re.split(r"[/\\]", self.video_path)[-1].split(".", 1)[0] or self.where


def read_metadata(paths: Sequence[str], base: str | Sequence[str] = "", reporter: Reporter = SILENT) -> list[Row]:
    """The rows of all files, one after the other.

    Args:
      base: the folder that the videos' paths are relative to; or one for each file.
      reporter: is told of cells that are not separated by commas.

    Raises:
      UserError: a file is missing, is no text or no CSV, lacks a column, a row has too many or too few cells, or there
        are no rows.
    """
    bases = [base] * len(paths) if isinstance(base, str) else base
    rows = [row for number, path in enumerate(paths) for row in _read(path, number, bases[number], reporter)]
    if not rows:
        raise UserError(f"{', '.join(paths) or '--dataset_metadata_path'}: no rows; give a CSV with a row a video")
    return rows


def _read(path: str, number: int, base: str, reporter: Reporter) -> Iterator[Row]:
    with files.open_file(path, "a metadata CSV") as file:
        table = read_table(lines_of(file, path), path, (*REQUIRED, *_OTHERS))
        columns = table.columns
        needed = (*REQUIRED, *(["fps"] if "scenes" in columns and "FPS" not in columns else []))
        for column in needed:
            if column not in columns:
                there = ", ".join(columns)[:200] or "none"
                raise UserError(f"{path}: has no column {column}; it has {there}; write the names in the first line")
        if table.separator != "commas":
            reporter.say(f"{path}: its cells are separated by {table.separator}")
        for line, cells in table.rows:
            yield Row(
                where=f"{path} line {line}",
                video_path=cells["video_path"],
                video=files.join(base, cells["video_path"]),
                caption=cells["caption"],
                fps=_number(cells.get("fps") or cells.get("FPS") or ""),
                scenes=cells.get("scenes", ""),
                roi_path=files.join(base, cells["roi_path"]) if cells.get("roi_path") else "",
                base=base,
                dataset=number,
                sounds=cells.get("sounds", ""),
                boxes=cells.get("boxes", ""),
            )


def _number(text: str) -> float:
    """A number above 0, also with a comma as spreadsheets of many countries write it; 0 where there is none."""
    try:
        value = float(text.replace(",", ".", 1))
    except ValueError:
        return 0.0
    return value if math.isfinite(value) and value > 0 else 0.0


def longest_scene(text: str, fps: float, frames: int) -> tuple[int, int]:
    """The longest scene as (first, last) frame at 25 fps; the whole video where no scene can be read.

    Four frames of the source are left out on both sides of a cut. A row whose numbers are no integers has no
    scenes, a part that is no pair is left out.

    Args:
      text: "start,end;start,end" in frames of the source, ends inclusive.
      fps: of the source.
      frames: of the video at 25 fps.
    """

    def at_25(frame: int) -> int:
        return math.floor(max(-1.0, min(frame * FPS / fps, frames)))

    def within(frame: int) -> int:
        return max(0, min(frame, frames - 1))

    trimmed = _trimmed(text) if fps > 0 else []
    scenes = [(within(at_25(start)), within(at_25(end + 1) - 1)) for start, end in trimmed]
    return max(
        (scene for scene in scenes if scene[1] >= scene[0]),
        key=lambda scene: scene[1] - scene[0],
        default=(0, frames - 1),
    )


def _trimmed(text: str) -> list[tuple[int, int]]:
    try:
        pairs = [tuple(map(_frame, part.split(","))) for part in text.split(";") if part.count(",") == 1]
    except ValueError:
        return []
    pairs = [(start, end) for start, end in pairs if end >= start]
    inner = len(pairs) - 1
    trimmed = [
        (start + (_TRIM if place > 0 else 0), end - (_TRIM if place < inner else 0))
        for place, (start, end) in enumerate(pairs)
    ]
    return [(start, end) for start, end in trimmed if end >= start]


def _frame(text: str) -> int:
    return max(-_MOST_FRAMES, min(int(text), _MOST_FRAMES))
