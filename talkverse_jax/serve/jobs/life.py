"""The life of a job: each change is one transaction with its event, and then subscribers hear of it."""

import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import sqlalchemy as sql
from sqlalchemy.engine import Connection, RowMapping

from talkverse_jax.media.frame_rate import FPS
from talkverse_jax.serve.jobs.database import EVENTS, JOBS, KEYS, OWNERS, Database, add_event, submission_row
from talkverse_jax.serve.jobs.hub import Hub
from talkverse_jax.serve.jobs.job import ENDED, JobEvent, JobFailure, Requeue, Submission
from talkverse_jax.serve.jobs.order import Waiting, in_order

_HOUR = 3600.0
_REMEMBERED = 24 * _HOUR  # an idempotency key, at least


class Life:
    """Changes of jobs. Calls for a job that is gone, or has ended, change nothing; nor do those of a worker whose try
    it is no more (`attempt`, as the job's row had it when the worker was given it).

    Args:
      keep_hours: an ended job is kept; where several processes have the jobs, those of the one that admitted it.
      changed: is called after every change of a job's status, with its id.
    """

    def __init__(self, database: Database, hub: Hub, keep_hours: float, changed: Callable[[str], None]):
        self._database, self._hub, self._keep_hours = database, hub, keep_hours
        self._changed = changed
        self._lock = threading.RLock()  # events reach subscribers in their order

    def admit(self, submission: Submission, size: int) -> None:
        """Keep a job, its key and its first event; its files must be on the disk.

        Args:
          size: bytes of its files.
        """
        with self._lock:
            with self._database.writing() as connection:
                now = self._database.now(connection)
                connection.execute(
                    JOBS.insert().values(
                        id=submission.id,
                        owner=submission.owner,
                        status="queued",
                        submission=submission_row(submission),
                        created_at=now,
                        bytes=size,
                        seconds=submission.seconds,
                        clips=submission.clips,
                        shape=submission.shape,
                        keep_hours=self._keep_hours,
                        notices=list(submission.notices),
                    )
                )
                if submission.key is not None:
                    connection.execute(
                        KEYS.insert().values(
                            owner=submission.owner,
                            key=submission.key,
                            digest=submission.digest or "",
                            job=submission.id,
                            created_at=now,
                        )
                    )
                position = [each.id for each in turns(connection)].index(submission.id) + 1
                add_event(connection, submission.id, "queued", {"queue_position": position})
                for notice in submission.notices:
                    add_event(connection, submission.id, "notice", {"message": notice})
            self._changed(submission.id)

    def start(self, job: str, *, worker: str | None = None, attempt: int | None = None) -> bool:
        """Put a waiting job into work; whether it waited.

        Args:
          worker: that it is given to, where there are several.
        """

        def change(connection: Connection, row: RowMapping) -> Iterable[JobEvent]:
            if row["status"] != "queued":
                return
            served = connection.scalar(sql.select(sql.func.max(OWNERS.c.served))) or 0
            connection.execute(OWNERS.delete().where(OWNERS.c.owner == row["owner"]))
            connection.execute(OWNERS.insert().values(owner=row["owner"], served=served + 1))
            began = row["started_at"] or self._database.now(connection)
            _update(connection, job, status="in_progress", started_at=began, put_back=False, worker=worker)
            yield add_event(connection, job, "started", {"attempt": row["attempt"]})

        return self._change(job, change, attempt)

    def clip(
        self,
        job: str,
        clip: int,
        frames: int,
        playable: int,
        *,
        shelf: str | None = None,
        attempt: int | None = None,
    ) -> bool:
        """A clip is on the disk, with what the next one must know.

        Args:
          clip: from 1; told again, it changes nothing but `playable`.
          frames: of all clips so far.
          playable: bytes of the unfinished file that are whole fragments.
          shelf: where it lies, see `depot`.
        """

        def change(connection: Connection, row: RowMapping) -> Iterable[JobEvent]:
            if clip <= row["clips_done"]:
                return
            _update(connection, job, clips_done=clip, frames_done=frames, playable=playable, shelf=shelf, deaths=0)
            yield add_event(
                connection,
                job,
                "clip",
                {
                    "clip": clip,
                    "clips": row["submission"]["clips"],
                    "frames": frames,
                    "seconds": round(frames / FPS, 2),
                },
            )

        return self._change(job, change, attempt)

    def notice(self, job: str, message: str, *, attempt: int | None = None) -> bool:
        """Keep a line for the person, once."""

        def change(connection: Connection, row: RowMapping) -> Iterable[JobEvent]:
            if message not in row["notices"]:
                _update(connection, job, notices=[*row["notices"], message])
                yield add_event(connection, job, "notice", {"message": message})

        return self._change(job, change, attempt)

    def requeue(self, job: str, reason: Requeue, *, died: bool = False, attempt: int | None = None) -> bool:
        """Put a job in work back into the queue, first in line.

        Args:
          died: whether the process died over it.
        """

        def change(connection: Connection, row: RowMapping) -> Iterable[JobEvent]:
            if row["status"] != "in_progress":
                return
            _update(
                connection,
                job,
                status="queued",
                put_back=True,
                attempt=row["attempt"] + 1,
                deaths=row["deaths"] + died,
            )
            yield add_event(connection, job, "requeued", {"reason": reason})

        return self._change(job, change, attempt)

    def died(self, job: str, most: int, *, attempt: int | None = None) -> None:
        """The process that had a job in work died: put it back, or end it where that was so often that something is
        wrong with it.

        Args:
          most: so often without a clip between.
        """
        self.requeue(job, "worker_died", died=True, attempt=attempt)
        if self.deaths(job) >= most:
            message = f"the process that made it ended {most} times; try other settings"
            self.fail(job, JobFailure("worker_died", message), attempt=None if attempt is None else attempt + 1)

    def deaths(self, job: str) -> int:
        """How often the process died over a job since it finished a clip of it."""
        with self._database.reading() as connection:
            return connection.scalar(sql.select(JOBS.c.deaths).where(JOBS.c.id == job)) or 0

    def complete(
        self,
        job: str,
        timings: Mapping[str, float],
        variants: Mapping[str, Any],
        size: int,
        *,
        shelf: str | None = None,
        attempt: int | None = None,
    ) -> bool:
        """A job's video has its name, and all that belongs to it is on the disk.

        Args:
          timings: seconds by phase.
          variants: of its files by name: size, etag and time.
          size: bytes of all its files.
          shelf: where they lie, see `depot`.
        """
        made = {"timings": dict(timings), "variants": dict(variants), "bytes": size, "shelf": shelf}
        return self._end(job, "completed", attempt, **made)

    def fail(self, job: str, failure: JobFailure, *, attempt: int | None = None) -> bool:
        """End a job without a video."""
        told = {"code": failure.code, "message": failure.message, "param": failure.param}
        return self._end(job, "failed", attempt, failure=told)

    def weigh(self, job: str, size: int) -> None:
        """Note the bytes of all files of a job that has ended."""
        with self._database.writing() as connection:
            _update(connection, job, bytes=size)

    def _end(self, job: str, status: str, attempt: int | None, **values: Any) -> bool:
        def change(connection: Connection, row: RowMapping) -> Iterable[JobEvent]:
            now = self._database.now(connection)
            keep = row["keep_hours"] if self._database.is_shared else self._keep_hours
            ended = {"status": status, "put_back": False, "completed_at": now, "expires_at": now + keep * _HOUR}
            _update(connection, job, **ended, **values)
            yield add_event(connection, job, status, {})

        return self._change(job, change, attempt)

    def remove(self, job: str) -> bool:
        """Forget a job, whatever its state, with its events; its key is remembered for a while."""
        with self._lock:
            with self._database.writing() as connection:
                last = connection.scalar(sql.select(sql.func.max(EVENTS.c.number)).where(EVENTS.c.job == job)) or 0
                found = connection.execute(JOBS.delete().where(JOBS.c.id == job)).rowcount
                connection.execute(EVENTS.delete().where(EVENTS.c.job == job))
                self._forget_keys(connection)
            if found:
                self._hub.publish(job, JobEvent(last + 1, "deleted", {"id": job}))
                self._changed(job)
        return bool(found)

    def forget_keys(self) -> None:
        """Forget the idempotency keys that are old enough, and of no job."""
        with self._database.writing() as connection:
            self._forget_keys(connection)

    def _forget_keys(self, connection: Connection) -> None:
        old = KEYS.c.created_at < self._database.now(connection) - _REMEMBERED
        connection.execute(KEYS.delete().where(old, KEYS.c.job.not_in(sql.select(JOBS.c.id))))

    def _change(
        self,
        job: str,
        change: Callable[[Connection, RowMapping], Iterable[JobEvent]],
        attempt: int | None = None,
    ) -> bool:
        """Change a job that has not ended; whether anything changed.

        Args:
          attempt: in which it must be; None: in any.
        """
        with self._lock:
            with self._database.writing() as connection:
                row = connection.execute(sql.select(JOBS).where(JOBS.c.id == job)).mappings().first()
                if row is None or row["status"] in ENDED or attempt not in (None, row["attempt"]):
                    return False
                events = list(change(connection, row))
            for event in events:
                self._hub.publish(job, event)
            if events:
                self._changed(job)
        return bool(events)


def _update(connection: Connection, job: str, **values: Any) -> None:
    connection.execute(JOBS.update().where(JOBS.c.id == job).values(**values))


def waiting(connection: Connection) -> list[Waiting]:
    """The jobs that wait, as they were admitted."""
    left = sql.func.coalesce(JOBS.c.clips - JOBS.c.clips_done, 1)
    rows = connection.execute(
        sql.select(JOBS.c.id, JOBS.c.owner, JOBS.c.number, JOBS.c.put_back, JOBS.c.shape, left, JOBS.c.deaths)
        .where(JOBS.c.status == "queued")
        .order_by(JOBS.c.number)
    )
    return [Waiting(*row) for row in rows]


def turns(connection: Connection) -> list[Waiting]:
    """The jobs that wait, in the order of their turns."""
    served = connection.execute(sql.select(OWNERS.c.owner, OWNERS.c.served))
    return in_order(waiting(connection), {owner: number for owner, number in served})
