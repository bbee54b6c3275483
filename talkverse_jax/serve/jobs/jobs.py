"""The jobs as the server's front sees them. Thread-safe; calls are short, and block only for the disk.

folder = jobs.folder(id)                    # bodies and inputs go there
record = jobs.admit(Submission(...))        # or jobs.refuse(id)
async for each in jobs.subscribe(record.id, after=0): ...
"""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

import sqlalchemy as sql
from sqlalchemy.exc import IntegrityError, OperationalError

from talkverse_jax.serve.jobs.database import EVENTS, JOBS, Database, record_of, url_of
from talkverse_jax.serve.jobs.folders import VARIANTS, Folders
from talkverse_jax.serve.jobs.hub import Hub, Subscription
from talkverse_jax.serve.jobs.job import (
    ENDED,
    Deleted,
    Health,
    JobEvent,
    JobFailure,
    Playable,
    Progress,
    Record,
    Refused,
    Submission,
    VideoFile,
    new_id,
)
from talkverse_jax.serve.jobs.keys import Keys, in_progress
from talkverse_jax.serve.jobs.lending import Hear
from talkverse_jax.serve.jobs.life import Life, turns
from talkverse_jax.serve.jobs.live import progress_of
from talkverse_jax.serve.jobs.postgres import Unreachable
from talkverse_jax.serve.jobs.room import bytes_coming, bytes_in, check_room
from talkverse_jax.serve.options import ServeOptions

Row = sql.RowMapping


class Maker(Protocol):
    """Whoever makes the jobs."""

    def changed(self, job: str) -> None:
        """A job's status has changed: there may be something to do, or to stop."""
        ...

    def progress(self, job: str) -> Progress | None:
        """How far a job is that is in work; None of another."""
        ...

    def health(self) -> tuple[Literal["loading", "ready", "draining"], int]:
        """State and number of the device."""
        ...

    def lend(self, message: dict[str, Any], hear: Hear) -> None:
        """Begin a live video (see `serve.worker.live`), which then is told of.

        Raises:
          Refused: not now.
        """
        ...

    def pass_on(self, message: dict[str, Any]) -> None:
        """Tell the worker something of a live video; of one that has ended nothing happens."""
        ...


class Jobs:
    """The jobs of a folder, which this process alone has, or of a database that others share.

    Args:
      options: with the limits.
      folders: by default those of `--data_dir`.
      database: by default a file in the folder.
    """

    def __init__(self, options: ServeOptions, folders: Folders | None = None, database: Database | None = None):
        self.limits = options
        self.folders = folders or Folders(Path(options.data_dir).absolute())
        self.database = database or Database(url_of(self.folders.root))
        self.hub = Hub()
        self.life = Life(self.database, self.hub, options.keep_hours, self._changed)
        self._keys = Keys(self.database)
        self._work: Maker | None = None
        self._begin = time.monotonic()

    def recover(self) -> None:
        """Put back what a killed server had in work, and remove what it left of requests and of jobs that were being
        removed; before any request is served, where nobody else has the jobs."""
        known = self._known()
        self.folders.tidy(known)
        for job, status in known.items():
            if status == "in_progress":
                self.life.requeue(job, "restart")
            elif status == "failed":
                self.weigh(job)

    def _known(self) -> dict[str, str]:
        """The statuses of all jobs."""
        with self.database.reading() as connection:
            return {job: status for job, status in connection.execute(sql.select(JOBS.c.id, JOBS.c.status))}

    def weigh(self, job: str) -> None:
        """Have all files of a failed job count, when nobody works on it any more: an unfinished video has some."""
        self.life.weigh(job, self.folders.size(job))

    def attach(self, work: Maker) -> None:
        """Say who makes the jobs."""
        self._work = work

    def lend(self, message: dict[str, Any], hear: Hear) -> None:
        """As of `Maker`."""
        if self._work is None:
            raise Refused(503, "not_ready", "the server is not ready; try again later", 10)
        self._work.lend(message, hear)

    def pass_on(self, message: dict[str, Any]) -> None:
        """As of `Maker`."""
        if self._work is not None:
            self._work.pass_on(message)

    # --- admission

    def folder(self, job: str | None = None) -> Path:
        """A new folder for a request's bodies and inputs, whose name is the job's id.

        Args:
          job: its id; a new one by default.
        """
        return self.folders.new(job or new_id())

    def refuse(self, job: str) -> None:
        """Remove the folder of a request that is not accepted."""
        self.folders.refuse(job)

    def check_room(self, owner: str) -> None:
        """Raises:
        Refused: queue_full, too_many_jobs, disk_full, quota_exceeded.
        """
        check_room(self.database, self.folders.root, self.limits, owner)

    def admit(self, submission: Submission) -> Record:
        """Accept a job: its files, its settings and its first events are on the disk when this returns.

        Raises:
          Refused: see `check_room`; the folder is left.
        """
        size = bytes_in(submission.folder)
        more = size + bytes_coming(submission.seconds)
        check_room(self.database, self.folders.root, self.limits, submission.owner, more=more)
        self.folders.accept(submission.id)
        try:
            self.life.admit(submission, size)
        except OperationalError:
            self.folders.remove(submission.id)
            raise Refused(507, "disk_full", "the server's disk is full; try again when there is room") from None
        except IntegrityError:  # another server has just admitted a job with this key
            self.folders.remove(submission.id)
            raise in_progress() from None
        if submission.key is not None:
            self._keys.release(submission.owner, submission.key)
        record = self.get(submission.owner, submission.id)
        assert record is not None, "it was just made"
        return record

    def reserve(self, owner: str, key: str) -> bool:
        """Whether a job is known by an idempotency key. If none is, the key is this request's until `admit`, or
        `release` where it is refused.

        Raises:
          Refused: idempotency_in_progress.
        """
        return self._keys.reserve(owner, key)

    def release(self, owner: str, key: str) -> None:
        """Give up a key that was reserved."""
        self._keys.release(owner, key)

    def idempotent(self, owner: str, key: str, digest: str) -> Record | Deleted | None:
        """The job that a key was first sent for; None where there is none.

        Args:
          digest: of all fields and bytes of the request.

        Raises:
          Refused: idempotency_key_reused.
        """
        job = self._keys.job_of(owner, key, digest)
        return None if job is None else self.get(owner, job) or Deleted(job)

    # --- what is there

    def row(self, job: str) -> Row | None:
        """A job's row in the tables; None of one that is gone."""
        with self.database.reading() as connection:
            return connection.execute(sql.select(JOBS).where(JOBS.c.id == job)).mappings().first()

    def get(self, owner: str, job: str) -> Record | None:
        """A job of this owner's."""
        row = self.row(job)
        return None if row is None or row["owner"] != owner else self._record(row)

    def list(
        self, owner: str, limit: int, order: str = "desc", after: str | None = None
    ) -> tuple[Sequence[Record], bool]:
        """An owner's jobs by admission, and whether there are more.

        Args:
          order: asc or desc.
          after: the id of the job before the first.

        Raises:
          KeyError: there is no such job of this owner's.
        """
        place = JOBS.c.number.desc() if order == "desc" else JOBS.c.number.asc()
        query = sql.select(JOBS).where(JOBS.c.owner == owner).order_by(place).limit(limit + 1)
        if after is not None:
            row = self.row(after)
            if row is None or row["owner"] != owner:
                raise KeyError(after)
            query = query.where(JOBS.c.number < row["number"] if order == "desc" else JOBS.c.number > row["number"])
        with self.database.reading() as connection:
            rows = connection.execute(query).mappings().all()
        return [self._record(row) for row in rows[:limit]], len(rows) > limit

    def events(self, job: str, after: int = 0) -> Sequence[JobEvent]:
        """The kept events behind a number."""
        query = sql.select(EVENTS).where(EVENTS.c.job == job, EVENTS.c.number > after).order_by(EVENTS.c.number)
        with self.database.reading() as connection:
            rows = connection.execute(query).mappings().all()
        return [JobEvent(row["number"], row["kind"], row["data"]) for row in rows]

    def subscribe(self, job: str, after: int = 0) -> Subscription:
        """The kept events behind a number, then what happens.

        Raises:
          KeyError: there is no such job.
        """
        if self.row(job) is None:
            raise KeyError(job)
        return self.hub.subscribe(job, after, lambda: self.events(job, after), lambda: self._progress(job))

    def progress(self, job: str) -> Progress:
        """How far a job is.

        Raises:
          KeyError: there is no such job.
        """
        found = self._progress(job)
        if found is None:
            raise KeyError(job)
        return found

    def video(self, job: str, variant: str = "video") -> VideoFile | None:
        """A file of a finished job; None where it is not finished.

        Args:
          variant: video, thumbnail or spritesheet.
        """
        row = self.row(job)
        if row is None or row["status"] != "completed":
            return None
        file = self.folders.stored(job, row["shelf"], VARIANTS[variant])
        return VideoFile(file=file, **row["variants"][variant])

    def playable(self, job: str) -> Playable | None:
        """What can be played by now; None while nothing can. Ask again when a `clip` event, or the last, has come."""
        row = self.row(job)
        return None if row is None else self.folders.playable(row)

    def state(self) -> Health:
        """The server's state."""
        count = sql.select(JOBS.c.status, sql.func.count()).where(JOBS.c.status.not_in(ENDED)).group_by(JOBS.c.status)
        state, device = self._work.health() if self._work else ("loading", 0)
        try:
            with self.database.reading() as connection:
                counts = {status: number for status, number in connection.execute(count)}
        except Unreachable:
            counts, state = {}, "draining" if state == "draining" else "loading"
        uptime = int(time.monotonic() - self._begin)
        return Health(state, counts.get("queued", 0), counts.get("in_progress", 0), device, uptime)

    # --- the end

    def cancel(self, owner: str, job: str) -> Record | None:
        """End a job that waits or is in work, at once; its finished clips stay. None where there is no such job.

        Raises:
          Refused: video_ended.
        """
        record = self.get(owner, job)
        if record is None:
            return None
        if not self.life.fail(job, JobFailure("cancelled", "the video was cancelled")):
            raise Refused(409, "video_ended", "the video has ended; delete it to remove it")
        return self.get(owner, job)

    def delete(self, owner: str, job: str) -> bool:
        """Remove a job, whatever its state; whether there was one. The files of one in work go when it has stopped."""
        row = self.row(job)
        if row is None or row["owner"] != owner:
            return False
        self._remove(row)
        return True

    def retain(self) -> None:
        """Remove ended jobs that are too old, or too many of an owner; and forget old keys."""
        query = sql.select(JOBS).where(JOBS.c.status.in_(ENDED)).order_by(JOBS.c.completed_at.desc())
        with self.database.reading() as connection:
            rows, now = connection.execute(query).mappings().all(), self.database.now(connection)
        kept: dict[str, int] = {}
        for row in rows:
            kept[row["owner"]] = kept.get(row["owner"], 0) + 1
            if row["expires_at"] <= now or kept[row["owner"]] > self.limits.max_jobs:
                self._remove(row)
        self.life.forget_keys()
        if self.database.is_shared:
            self.folders.tidy(self._known())

    def close(self) -> None:
        """Have done with the database."""
        self.database.close()

    # ---

    def _remove(self, row: Row) -> None:
        in_work = self._in_work(row)
        self.life.remove(row["id"])
        if not in_work:
            self.folders.remove(row["id"])

    def _in_work(self, row: Row) -> bool:
        """Whether somebody makes a job, who removes its files when it is gone."""
        if row["status"] != "in_progress" or self._work is None:
            return False
        return self.database.is_shared or self._work.progress(row["id"]) is not None

    def _changed(self, job: str) -> None:
        if self._work is not None:
            self._work.changed(job)
        for each in () if self.database.is_shared else self.hub.listened():
            if (progress := self._progress(each)) is not None:
                self.hub.tell(progress)

    def _record(self, row: Row) -> Record:
        return record_of(row, self.folders.of(row["id"]))

    def _progress(self, job: str) -> Progress | None:
        row = self.row(job)
        if row is None:
            return None
        live = self._work.progress(job) if self._work and row["status"] == "in_progress" else None
        return progress_of(row, self.turns() if row["status"] == "queued" else (), live)

    def turns(self) -> Sequence[str]:
        """The jobs that wait, in the order of their turns."""
        with self.database.reading() as connection:
            return [each.id for each in turns(connection)]
