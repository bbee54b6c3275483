"""The metadata of a data set: CSV files with a row a video, as the original program reads them."""

import csv
import io
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from talkverse_jax.core import files
from talkverse_jax.core.errors import UserError
from talkverse_jax.media.frame_rate import FPS

REQUIRED = ("video_path", "caption")
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
    """

    where: str
    video_path: str
    video: str
    caption: str
    fps: float = 0.0
    scenes: str = ""
    roi_path: str = ""

    @property
    def name(self) -> str:
        """The video's id: its file name up to the first dot."""
        return self.video_path.rsplit("/", 1)[-1].split(".", 1)[0] or self.where


def read_metadata(paths: Sequence[str], base: str = "") -> list[Row]:
    """The rows of all files, one after the other.

    Args:
      base: the folder that the videos' paths are relative to.

    Raises:
      UserError: a file is missing, is no CSV in UTF-8, lacks a column, or there are no rows.
    """
    csv.field_size_limit(sys.maxsize)  # captions of more than 128 KB exist
    rows = [row for path in paths for row in _read(path, base)]
    if not rows:
        raise UserError(f"{', '.join(paths) or '--dataset_metadata_path'}: no rows; give a CSV with a row a video")
    return rows


def _read(path: str, base: str) -> Iterator[Row]:
    with files.open_file(path, "a metadata CSV") as file:
        try:
            reader = csv.DictReader(io.TextIOWrapper(file, "utf-8-sig", newline=""))
            columns = reader.fieldnames or ()
            needed = (*REQUIRED, *(["fps"] if "scenes" in columns and "FPS" not in columns else []))
            for column in needed:
                if column not in columns:
                    raise UserError(f"{path}: has no column {column}; it has {', '.join(columns) or 'none'}")
            for values in reader:
                where = f"{path} line {reader.line_num}"
                cells = {key: (value or "").strip() for key, value in values.items() if isinstance(key, str)}
                yield Row(
                    where=where,
                    video_path=cells["video_path"],
                    video=files.join(base, cells["video_path"]),
                    caption=cells["caption"],
                    fps=_number(cells.get("fps") or cells.get("FPS") or ""),
                    scenes=cells.get("scenes", ""),
                    roi_path=files.join(base, cells["roi_path"]) if cells.get("roi_path") else "",
                )
        except UnicodeDecodeError:
            raise UserError(f"{path}: is not a text in UTF-8; save the CSV in that encoding") from None
        except csv.Error as error:
            raise UserError(f"{path}: is not a CSV that can be read ({error}); save it again") from None


def _number(text: str) -> float:
    try:
        value = float(text)
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
    scenes = [
        (max(0, min(first, frames - 1)), max(0, min(last, frames - 1)))
        for first, last in (
            (math.floor(start * FPS / fps), math.floor((end + 1) * FPS / fps) - 1)
            for start, end in (_trimmed(text) if fps > 0 else ())
        )
    ]
    return max(
        (scene for scene in scenes if scene[1] >= scene[0]),
        key=lambda scene: scene[1] - scene[0],
        default=(0, frames - 1),
    )


def _trimmed(text: str) -> list[tuple[int, int]]:
    try:
        pairs = [tuple(map(int, part.split(","))) for part in text.split(";") if part.count(",") == 1]
    except ValueError:
        return []
    pairs = [(start, end) for start, end in pairs if end >= start]
    inner = len(pairs) - 1
    trimmed = [
        (start + (_TRIM if place > 0 else 0), end - (_TRIM if place < inner else 0))
        for place, (start, end) in enumerate(pairs)
    ]
    return [(start, end) for start, end in trimmed if end >= start]
