"""What a stopped run leaves beside its unfinished video, so that a later one can go on at the next clip.

`NAME.partial.npz` holds what the next clip must know of those before (see `Pipeline.save`), how many frames of each
are in `NAME.partial.mp4`, the seed, and what the video is made from.
"""

import dataclasses
import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jax.experimental import multihost_utils

from talkverse_jax.core.errors import UserError
from talkverse_jax.core.paths import replacing
from talkverse_jax.media.video_writer import partial_file, unfinished_files
from talkverse_jax.pipeline.job import Job
from talkverse_jax.pipeline.pipeline import Saved
from talkverse_jax.sharding.distributed import from_main, is_main, process_count


@dataclasses.dataclass(frozen=True)
class Unfinished:
    """A video that a run left unfinished.

    Attributes:
      clip: the number of the next one.
      saved: what it must know; of several processes, all have it.
      written: frames of each clip in the partial file.
      seed: of the video.
    """

    clip: int
    saved: Saved
    written: tuple[int, ...]
    seed: int


def state_file(output: Path) -> Path:
    """Beside the partial video."""
    return output.with_name(f"{output.stem}.partial.npz")


def save(output: Path, job: Job, clip: int, saved: Saved, written: Sequence[int]) -> None:
    """Note that the clips before number `clip` are on the disk; atomic."""
    meta = {"family": job.family, "made_from": job.made_from, "clip": clip, "written": written}
    with replacing(state_file(output)) as partial, open(partial, "wb") as file:
        # older NumPy would take `allow_pickle` for an array
        np.savez(file, meta=json.dumps(meta), **saved)  # pyright: ignore[reportArgumentType]  # that is what it is for


def load(output: Path, job: Job) -> Unfinished | None:
    """What is there to go on from; None where nothing is. Process 0's file counts; all processes must ask.

    Raises:
      UserError: what is there is of another video, or damaged.
    """
    return everywhere(_read(output, job) if is_main() else None)


def everywhere(mine: Unfinished | None) -> Unfinished | None:
    """What process 0 has, in every process."""
    if process_count() == 1:
        return mine
    told: Any = mine and {
        "clip": mine.clip,
        "written": mine.written,
        "seed": mine.seed,
        "saved": {name: [array.shape, array.dtype.name] for name, array in mine.saved.items()},
    }
    told = json.loads(from_main("unfinished", json.dumps(told)))
    if told is None:
        return None
    empty = {name: np.zeros(shape, dtype) for name, (shape, dtype) in told["saved"].items()}
    arrays = multihost_utils.broadcast_one_to_all(mine.saved if mine else empty)
    saved = {name: np.asarray(array) for name, array in arrays.items()}
    return Unfinished(told["clip"], saved, tuple(told["written"]), told["seed"])


def is_finished(output: Path, record: Path, job: Job) -> bool:
    """Whether the video is there already; process 0 looks, all processes must ask.

    Raises:
      UserError: another video is there.
    """
    mine = False
    if is_main() and output.exists() and record.exists():
        made_from = json.loads(record.read_text(encoding="utf-8")).get("made_from")
        if mine := made_from is not None:
            _check_same(output, job, made_from)
    return json.loads(from_main("finished", json.dumps(mine)))


def left_behind(output: Path) -> str:
    """What a run that was stopped has left, for people."""
    if not state_file(output).exists():
        return "no clip was finished"
    plays = partial_file(output)
    return f"the finished clips are in {plays}, which plays; the same command with --resume goes on from there"


def _read(output: Path, job: Job) -> Unfinished | None:
    path = state_file(output)
    if not (path.exists() and unfinished_files(output)):
        return None
    try:
        with np.load(path) as file:
            saved = {name: file[name] for name in file.files if name != "meta"}
            meta = json.loads(str(file["meta"]))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        raise UserError(f"{path}: damaged; leave out --resume to begin again") from None
    _check_same(path, job, meta["made_from"])
    return Unfinished(meta["clip"], saved, tuple(meta["written"]), meta["made_from"]["base_seed"])


def _check_same(path: Path, job: Job, before: dict[str, Any]) -> None:
    if other := job.differences(before):
        raise UserError(f"{path}: of another video: {describe_difference(job, before, other[0])}")


def describe_difference(job: Job, before: dict[str, Any], name: str) -> str:
    """One thing that decides a video and was otherwise, for people."""
    if name.endswith("'s file") or name.endswith("' files"):
        return f"--{name} is another; give the same, or leave out --resume"
    was, now = job.completed(before).get(name), job.made_from.get(name)
    return f"--{name} was {was!r}, not {now!r}; give the same, or leave out --resume"
