"""What belongs to a finished video: its digest, a thumbnail, a sheet of its frames."""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import av
from PIL import Image

from talkverse_jax.core.paths import replacing
from talkverse_jax.serve.jobs.folders import VARIANTS

_LONG_SIDE = 512  # pixels of a thumbnail, at most
_CELLS, _CELL_WIDTH = 5, 160


def make_variants(folder: Path) -> dict[str, dict[str, Any]]:
    """Make the thumbnail and the sheet of a finished video; of each file size, digest and time."""
    video = folder / VARIANTS["video"]
    frames = _frames_at(video, _CELLS * _CELLS)
    _save(_thumbnail(frames[0]), folder / VARIANTS["thumbnail"], "WEBP", quality=85)
    _save(_sheet(frames), folder / VARIANTS["spritesheet"], "JPEG", quality=85)
    return {name: _described(folder / file) for name, file in VARIANTS.items()}


def _frames_at(video: Path, count: int) -> list[Image.Image]:
    """Frames at equal distances, from the first to the last; each is decoded from the keyframe before it."""
    found: list[Image.Image] = []
    with av.open(str(video), format="mp4") as container:
        stream = container.streams.video[0]
        assert stream.time_base is not None and stream.average_rate is not None
        tick = 1 / (stream.average_rate * stream.time_base)
        for place in range(count):
            wanted = round(round(place * (stream.frames - 1) / (count - 1)) * tick)
            container.seek(wanted, stream=stream)
            frame = next(each for each in container.decode(stream) if each.pts is not None and each.pts >= wanted)
            found.append(frame.to_image())
    return found


def _thumbnail(frame: Image.Image) -> Image.Image:
    made = frame.copy()
    made.thumbnail((_LONG_SIDE, _LONG_SIDE))
    return made


def _sheet(frames: Sequence[Image.Image]) -> Image.Image:
    width, height = _CELL_WIDTH, round(_CELL_WIDTH * frames[0].height / frames[0].width)
    made = Image.new("RGB", (_CELLS * width, _CELLS * height))
    for place, frame in enumerate(frames):
        row, column = divmod(place, _CELLS)
        made.paste(frame.resize((width, height)), (column * width, row * height))
    return made


def _save(picture: Image.Image, path: Path, format: str, **options: Any) -> None:
    with replacing(path) as partial:
        picture.save(partial, format, **options)


def _described(path: Path) -> dict[str, Any]:
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    status = os.stat(path)
    return {"size": status.st_size, "etag": digest, "modified": status.st_mtime}
