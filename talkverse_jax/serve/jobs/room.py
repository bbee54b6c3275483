"""Whether there is room for another job: in the queue, and on the disk."""

import os
import shutil
from pathlib import Path

import sqlalchemy as sql

from talkverse_jax.serve.jobs.database import JOBS, Database
from talkverse_jax.serve.jobs.job import Refused
from talkverse_jax.serve.options import ServeOptions

_VIDEO_RATE = 1_000_000  # bytes that a second of a waiting video counts for
_RETRY_AFTER = 30  # seconds


def check_room(database: Database, folder: Path, limits: ServeOptions, owner: str, *, more: int = 0) -> None:
    """Whether another job can be let in.

    Args:
      folder: of all files.
      more: bytes that the new job counts for.

    Raises:
      Refused: there is no room in the queue or on the disk.
    """
    with database.reading() as connection:
        queued = sql.select(sql.func.count()).select_from(JOBS).where(JOBS.c.status == "queued")
        if (connection.scalar(queued) or 0) >= limits.max_queue:
            raise Refused(429, "queue_full", "the queue is full; try again later", _RETRY_AFTER)
        if (connection.scalar(queued.where(JOBS.c.owner == owner)) or 0) >= limits.max_queue_per_key:
            raise Refused(
                429, "too_many_jobs", "too many of your videos wait; try again when one has begun", _RETRY_AFTER
            )
        used = _used(connection)
    if shutil.disk_usage(folder).free < limits.min_free_bytes:
        raise Refused(507, "disk_full", "the server's disk is full; try again when there is room")
    if used + more > limits.max_disk_bytes:
        raise Refused(507, "quota_exceeded", "the server keeps as many videos as it may; delete some")


def _used(connection: sql.Connection) -> int:
    """Bytes of all jobs, what waits or is in work by what it will take."""
    open_jobs = JOBS.c.status.in_(("queued", "in_progress"))
    total = connection.scalar(sql.select(sql.func.sum(JOBS.c.bytes))) or 0
    coming = connection.scalar(sql.select(sql.func.sum(JOBS.c.seconds)).where(open_jobs)) or 0
    return int(total) + bytes_coming(coming)


def bytes_coming(seconds: float) -> int:
    """What a video of that length counts for until it is made."""
    return round(seconds * _VIDEO_RATE)


def bytes_in(folder: Path) -> int:
    """Of all files in a folder."""
    return sum(os.lstat(os.path.join(inside, name)).st_size for inside, _, names in os.walk(folder) for name in names)
