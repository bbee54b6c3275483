"""What a stopped run leaves beside its unfinished video, so that a later one can go on at the next clip.

`NAME.partial.npz` holds what the next clip must know of those before (see `Pipeline.save`), how many frames of each
are in `NAME.partial.mp4` and their checksums, the seed, and what the video is made from; at its end, the SHA-256 of all
that. It is written when the clips that it speaks of are on the disk.

At the end of a run the video is finished beside its place, its record is written (`record.prepare_record`), and then
the video takes its place, the record its own, and the rest goes. What is killed on the way is finished by the next run.
"""

import dataclasses
import hashlib
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jax.experimental import multihost_utils

from talkverse_jax.core.errors import UserError
from talkverse_jax.core.paths import clear, is_plain, publish, replacing
from talkverse_jax.media.video_writer import before_file, finishing_file, partial_file
from talkverse_jax.media.whole import fault
from talkverse_jax.pipeline.job import Job
from talkverse_jax.pipeline.pipeline import Saved
from talkverse_jax.run import record as records
from talkverse_jax.sharding.distributed import from_main, is_main, process_count

_SEAL = b"\nsha256 "  # and 64 digits; what follows the end of a zip is no part of it


@dataclasses.dataclass(frozen=True)
class Unfinished:
    """A video that a run left unfinished.

    Attributes:
      clip: the number of the next one.
      saved: what it must know; of several processes, all have it.
      written: frames of each clip in the partial file.
      checksums: of these clips (see `VideoWriter`); none of an older program's.
      made_from: of the job, with the seed that was drawn.
    """

    clip: int
    saved: Saved
    written: tuple[int, ...]
    checksums: tuple[int, ...]
    made_from: dict[str, Any]


def state_file(output: Path) -> Path:
    """Beside the partial video."""
    return output.with_name(f"{output.stem}.partial.npz")


def note_file(output: Path) -> Path:
    """Where it is noted what helpers have made for the video (see `helped`), until it has a record."""
    return output.with_name(f"{output.stem}.partial.json")


def save(output: Path, job: Job, clip: int, saved: Saved, written: Sequence[int], checksums: Sequence[int]) -> None:
    """Note that the clips before number `clip` are on the disk; atomic."""
    meta = {"family": job.family, "made_from": job.made_from, "clip": clip}
    meta |= {"written": written, "checksums": checksums}
    file = io.BytesIO()
    # older NumPy would take `allow_pickle` for an array
    np.savez(file, meta=json.dumps(meta), **saved)  # pyright: ignore[reportArgumentType]  # that is what it is for
    with replacing(state_file(output)) as partial, open(partial, "wb") as target:
        target.write(file.getbuffer())
        target.write(_SEAL + hashlib.sha256(file.getbuffer()).hexdigest().encode())


def load(output: Path, job: Job, *, alone: bool = False) -> Unfinished | None:
    """What is there to go on from; None where nothing is. Process 0's file counts; all processes must ask.

    Args:
      alone: only process 0 asks, and needs it.

    Raises:
      UserError: what is there is of another video, or damaged.
    """
    mine = _read(output) if is_main() else None
    if mine is not None:
        _check_same(state_file(output), job, mine.made_from)
    return mine if alone else everywhere(mine)


def everywhere(mine: Unfinished | None) -> Unfinished | None:
    """What process 0 has, in every process."""
    if process_count() == 1:
        return mine
    told: Any = mine and {
        "clip": mine.clip,
        "written": mine.written,
        "checksums": mine.checksums,
        "made_from": mine.made_from,
        "saved": {name: [array.shape, array.dtype.name] for name, array in mine.saved.items()},
    }
    told = json.loads(from_main("unfinished", json.dumps(told)))
    if told is None:
        return None
    empty = {name: np.zeros(shape, dtype) for name, (shape, dtype) in told["saved"].items()}
    arrays = multihost_utils.broadcast_one_to_all(mine.saved if mine else empty)
    saved = {name: np.asarray(array) for name, array in arrays.items()}
    return Unfinished(told["clip"], saved, tuple(told["written"]), tuple(told["checksums"]), told["made_from"])


def is_finished(output: Path, job: Job, say: Callable[[str], None]) -> bool:
    """Whether the video is there already, whole; if so, what a killed run left beside it goes. Process 0 looks, all
    processes must ask.

    Args:
      say: is told where the video is not whole.

    Raises:
      UserError: another video is there.
    """
    return json.loads(from_main("finished", json.dumps(is_main() and _is_finished(output, job, say))))


def _is_finished(output: Path, job: Job, say: Callable[[str], None]) -> bool:
    _finish(output, job)
    record = records.read_record(records.record_file(output))
    if record is None or "made_from" not in record or not output.exists():
        return False
    unfinished = _read(output)
    if unfinished is not None and unfinished.made_from != record["made_from"]:
        return False  # it is the later one, which counts
    _check_same(output, job, record["made_from"])
    if wrong := fault(output, record.get("frames"), record.get("bytes", 0)):
        say(f"{output}: {wrong}; it is made again")
        return False
    finish(output)
    return True


def _finish(output: Path, job: Job) -> None:
    """Put in place what a run had finished when it was killed."""
    record = records.prepared_record(output)
    if record is None or job.differences(record["made_from"]):
        return
    for file in (finishing_file(output), output):
        if is_plain(file) and file.stat().st_size == record["bytes"] and not fault(file, record["frames"]):
            if file != output:
                publish(file, output)
            records.place_record(output)
            return


def discard(output: Path) -> None:
    """Remove what runs have left beside a video, and the one that is about to be made replaces."""
    clear(state_file(output))  # first: without it, the others are nothing to go on from
    records.discard_prepared(output)
    for file in (finishing_file(output), before_file(output), partial_file(output)):
        clear(file)


def finish(output: Path) -> None:
    """Remove all that a finished video, which has its record, needs no more."""
    discard(output)
    clear(note_file(output))


def left_behind(output: Path) -> str:
    """What a run that was stopped has left, for people."""
    if not is_plain(state_file(output)):
        return "no clip was finished"
    plays = partial_file(output)
    return f"the finished clips are in {plays}, which plays; the same command with --resume goes on from there"


def _read(output: Path) -> Unfinished | None:
    path = state_file(output)
    if not (is_plain(path) and any(map(is_plain, (before_file(output), partial_file(output))))):
        return None
    try:
        data, sealed, digest = path.read_bytes().rpartition(_SEAL)  # an older program's has none
        if sealed and hashlib.sha256(data).hexdigest().encode() != digest:
            raise ValueError
        with np.load(io.BytesIO(data or digest)) as file:
            saved = {name: file[name] for name in file.files if name != "meta"}
            meta = json.loads(str(file["meta"]))
        written, checksums = tuple(meta["written"]), tuple(meta.get("checksums", ()))
        return Unfinished(meta["clip"], saved, written, checksums, dict(meta["made_from"]))
    except Exception:  # of many kinds, whose bytes were damaged under zip, NumPy or JSON
        raise UserError(f"{path}: damaged; leave out --resume to begin again") from None


def _check_same(path: Path, job: Job, before: dict[str, Any]) -> None:
    if other := job.differences(before):
        raise UserError(f"{path}: of another video: {describe_difference(job, before, other[0])}")


def describe_difference(job: Job, before: dict[str, Any], name: str) -> str:
    """One thing that decides a video and was otherwise, for people."""
    if name.endswith("'s file") or name.endswith("' files"):
        return f"--{name} is another; give the same, or leave out --resume"
    was, now = job.completed(before).get(name), job.made_from.get(name)
    return f"--{name} was {was!r}, not {now!r}; give the same, or leave out --resume"
