"""The files of a video: a run has them for itself, and reads none of those that it writes."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from talkverse_jax.core.errors import UserError
from talkverse_jax.core.lock import locked
from talkverse_jax.core.paths import check_apart, partial_of
from talkverse_jax.media.video_writer import (
    before_file,
    check_output,
    finishing_file,
    is_unfinished_name,
    partial_file,
)
from talkverse_jax.pipeline.job import Job
from talkverse_jax.run.record import check_record, record_file
from talkverse_jax.run.resume import note_file, state_file

_LONGEST_NAME = 255  # bytes
_REMEDY = "give another --output"


def check(job: Job) -> Path:
    """Make sure, before anything is computed, that a job's video can be written, and takes the place of no file that
    the job reads; makes the folder. The video's path.

    Raises:
      UserError: it cannot, or would.
    """
    output = check_name(job.output)
    check_apart(files_of(output), job.files_read(), _REMEDY)
    check_record(record_file(output))
    return output


def check_name(path: str) -> Path:
    """The path of a video, whose folder is made.

    Raises:
      UserError: no video can have it.
    """
    output = check_output(path)
    if is_unfinished_name(output):
        raise UserError(f"{output}: is the name of an unfinished video; {_REMEDY}")
    if max(len(os.fsencode(path.name)) for path in files_of(output)) > _LONGEST_NAME:
        raise UserError(f"{output}: the names of its unfinished files would be too long; give a shorter name")
    return output


@contextmanager
def claimed(job: Job) -> Iterator[Path]:
    """The path of a job's video, which no other run writes while the block lasts.

    Raises:
      UserError: see `check`; or another run has it.
    """
    output = check(job)
    with locked(_lock_file(output), f"{output}: another run is making it; wait for it, or {_REMEDY}"):
        yield output


def files_of(output: Path) -> list[Path]:
    """All files that are written while a video is made."""
    replaced = [record_file(output), state_file(output)]
    scratch = [partial_file(output), before_file(output), finishing_file(output), _lock_file(output)]
    return [output, note_file(output), *replaced, *map(partial_of, replaced), *scratch]


def _lock_file(output: Path) -> Path:
    return output.with_name(f".{output.stem}.lock")
