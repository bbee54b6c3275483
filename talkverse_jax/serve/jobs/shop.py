"""Who makes the jobs: takes one after another in the order of their turns, has a worker make its clips, and keeps
worker and jobs going whatever ends: the worker, the disk's room, or this process.

Of a job in work three may be at it: the thread that takes jobs, which gives it its turn; the thread of its workflow
(see `flow`), which asks for a clip and waits; and that which hears the worker. What they share is under one condition.
"""

import logging
import shutil
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable
from typing import Any, Literal, TypeVar

import sqlalchemy as sql
from sqlalchemy.exc import OperationalError

from talkverse_jax.serve.jobs.database import JOBS
from talkverse_jax.serve.jobs.flow import Flow, Leaving, flow_url
from talkverse_jax.serve.jobs.job import ENDED, JobEvent, JobFailure, Progress, Requeue
from talkverse_jax.serve.jobs.jobs import Jobs
from talkverse_jax.serve.jobs.life import turns
from talkverse_jax.serve.jobs.live import Live
from talkverse_jax.serve.worker.process import WorkerProcess, WorkerSetup

LOG = logging.getLogger("talkverse_jax.serve")

_DEATHS, _WITHIN = 5, 600.0  # so many deaths of the worker in so many seconds: something else is wrong
_LOOK_EVERY = 1.0  # seconds, for room on the disk
_ROOM_AGAIN = 1 << 20  # bytes more than there were when it was full
_RETAIN_EVERY = 600.0  # seconds
_END_WITHIN = 3.0  # seconds for the thread that takes jobs
_LEAVE_WITHIN = 4.0  # seconds for a worker to come to the end of a step

Result = TypeVar("Result")


class Shop:
    """Makes the jobs.

    Args:
      flow_database: the URL of the workflows' database; by default a file in the jobs' folder.
      broken: is called when nothing can be made: with a line for the person where the models cannot be used, with
        None when the worker died too often.
      said: is called with the state when that changes.
    """

    def __init__(
        self,
        jobs: Jobs,
        setup: WorkerSetup,
        *,
        broken: Callable[[str | None], None],
        said: Callable[[str], None] = lambda state: None,
        flow_database: str | None = None,
    ):
        self._jobs, self._setup, self._broken, self._said = jobs, setup, broken, said
        self._url = flow_database or flow_url(jobs.folders.root)
        self._cond = threading.Condition()
        self._worker: WorkerProcess | None = None
        self._ready = self._draining = self._closing = False
        self._device = 0
        self._current: str | None = None  # whose turn it is
        self._running: set[str] = set()  # workflows of this process
        self._live: Live | None = None
        self._pace: float | None = None  # of the last clip
        self._asked, self._answer = 0, None  # the last request to the worker, and what it said
        self._deaths: deque[float] = deque(maxlen=_DEATHS)
        self._retain_at = 0.0
        self._full: int | None = None  # free bytes when the disk was full
        self._thread = threading.Thread(target=self._take_jobs, name="jobs", daemon=True)

    # --- from outside

    def start(self) -> None:
        """Start a worker, and begin; behind `Jobs.recover`."""
        self._jobs.attach(self)
        self._start_worker()
        self._thread.start()

    def changed(self, job: str) -> None:
        with self._cond:
            ended = job == self._current and self._status(job) in (None, *ENDED)
            if ended and self._worker:
                self._worker.send({"do": "stop", "job": job})
            self._cond.notify_all()

    def progress(self, job: str) -> Progress | None:
        with self._cond:
            return self._live.progress if self._live and job == self._current else None

    def health(self) -> tuple[Literal["loading", "ready", "draining"], int]:
        return ("draining" if self._draining else "ready" if self._ready else "loading"), self._device

    @property
    def worker_pid(self) -> int | None:
        """Of the worker's process."""
        return self._worker.pid if self._worker else None

    def drain(self, seconds: float) -> None:
        """Take no further job; let the clip in work be finished if that takes at most so many seconds, else leave it at
        the next step; and end the worker."""
        with self._cond:
            self._draining = True
            self._cond.notify_all()
            self._jobs.hub.publish_all(JobEvent(None, "server", {"state": "draining"}))
            self._cond.wait_for(lambda: self._current is None, seconds)
            if self._current is not None and self._worker:
                self._worker.send({"do": "stop", "job": self._current})
                self._cond.wait_for(lambda: self._current is None, _LEAVE_WITHIN)
            left = self._current
        if left is not None:
            self._put_back(left, "drain")
        self.close()

    def close(self) -> None:
        """End the worker, and have done."""
        with self._cond:
            self._closing = self._draining = True
            self._cond.notify_all()
        self.kill()
        if threading.current_thread() is not self._thread:
            self._thread.join(_END_WITHIN)

    def kill(self) -> None:
        """End the worker at once; what it has finished is on the disk."""
        if self._worker:
            self._worker.kill()

    # --- the thread that takes jobs

    def _take_jobs(self) -> None:
        try:
            flow = Flow(self._url, self, uuid.uuid4().hex)
        except Exception:
            LOG.exception("the workflows' database cannot be used")
            self._broken(None)
            return
        try:
            while (job := self._next()) is not None:
                try:
                    clips = self._turn(job)
                    if clips is not None and job not in self._running:
                        self._running.add(job)
                        flow.run(job, clips)
                except Exception as error:  # such as a database on a full disk
                    LOG.error("%s: cannot begin (%s)", job, error)
                    self._running.discard(job)
                    self._put_back(job, "disk_full")
        finally:
            flow.close()

    def _next(self) -> str | None:
        """The job whose turn it is, when there is one and nothing is in work; None at the end."""
        while True:
            if time.monotonic() > self._retain_at:
                self._retain_at = time.monotonic() + _RETAIN_EVERY
                self._surely(self._jobs.retain)
            with self._cond:
                self._cond.wait_for(lambda: self._closing or self._can_take(), _LOOK_EVERY)
                if self._closing:
                    return None
                if not self._can_take() or not self._has_room():
                    continue
            with self._jobs.database.reading() as connection:
                found = turns(connection)
            if found:
                return found[0].id
            with self._cond:
                self._cond.wait(_LOOK_EVERY)

    def _can_take(self) -> bool:
        return self._ready and not self._draining and self._current is None

    def _has_room(self) -> bool:
        free = shutil.disk_usage(self._jobs.folders.root).free
        if free < self._jobs.limits.min_free_bytes or (self._full is not None and free < self._full + _ROOM_AGAIN):
            self._cond.wait(_LOOK_EVERY)
            return False
        self._full = None
        return True

    def _turn(self, job: str) -> int | None:
        """Give a job its turn; its number of clips, or None where it has gone meanwhile."""
        row = self._jobs.row(job)
        if row is None:
            return None
        clips = row["submission"]["clips"]
        with self._cond:
            self._current, self._live = job, Live(job, clips, row["clips_done"], self._pace)
        if not self._jobs.life.start(job):
            with self._cond:
                self._current = self._live = None
            if self._status(job) is None:
                self._jobs.folders.remove(job)
            return None
        LOG.info("%s in_progress", job)
        with self._cond:
            self._cond.notify_all()
        return clips

    # --- the workflow's thread

    def make_clip(self, job: str, clip: int) -> bool:
        while self._is_my_turn(job):
            row = self._jobs.row(job)
            if row is None or row["status"] in ENDED:
                return False
            if row["clips_done"] >= clip:
                return True
            answer = self._ask({"do": "clip", "clip": clip, "clips": row["submission"]["clips"]}, job, row)
            if answer["say"] == "clip":
                self._surely(self._jobs.life.clip, job, clip, answer["frames"], answer["playable"])
                if self._draining:
                    self._put_back(job, "drain")
            else:
                self._not_made(job, answer)
        return False

    def finish(self, job: str) -> bool:
        while self._is_my_turn(job):
            row = self._jobs.row(job)
            if row is None or row["status"] in ENDED:
                return False
            answer = self._ask({"do": "finish"}, job, row)
            if answer["say"] == "finished":
                for notice in answer["notices"]:
                    self._surely(self._jobs.life.notice, job, notice)
                made = (answer["timings"], answer["variants"], answer["bytes"])
                self._surely(self._jobs.life.complete, job, *made)
                return True
            self._not_made(job, answer)
        return False

    def left(self, job: str) -> None:
        status = self._status(job)
        with self._cond:
            self._running.discard(job)
        if status == "in_progress" and not self._closing:  # its workflow could not be recorded
            self._put_back(job, "disk_full")
        with self._cond:
            if self._current == job:
                self._current = self._live = None
            self._cond.notify_all()
        if status is None:
            self._jobs.folders.remove(job)
        LOG.info("%s %s", job, status or "deleted")

    def _is_my_turn(self, job: str) -> bool:
        """Wait for the job's turn; False if it has ended.

        Raises:
          Leaving: the process ends.
        """
        with self._cond:
            while self._current != job:
                if self._closing:
                    raise Leaving
                if self._status(job) in (None, *ENDED):
                    return False
                self._cond.wait(_LOOK_EVERY)
        return True

    def _ask(self, request: dict[str, Any], job: str, row: Any) -> dict[str, Any]:
        """The worker's answer; `died` if it died over it."""
        submission = row["submission"]
        message = {
            **request,
            "job": job,
            "folder": str(self._jobs.folders.of(job)),
            "files": submission["files"],
            "settings": submission["settings"],
        }
        with self._cond:
            if self._worker is None or self._current != job:
                return {"say": "died"}
            self._asked += 1
            self._answer = None
            self._worker.send({**message, "request": self._asked})
            self._cond.wait_for(lambda: self._answer is not None or self._closing)
            if self._answer is None:
                raise Leaving
            return self._answer

    def _not_made(self, job: str, answer: dict[str, Any]) -> None:
        """A clip was not made: the job fails, or waits for another turn."""
        if answer["say"] == "failed":
            LOG.error("%s failed: %s: %s\n%s", job, answer["code"], answer["message"], answer["trace"])
            failure = JobFailure(answer["code"], answer["message"], answer["param"])
            self._surely(self._jobs.life.fail, job, failure)
        elif answer["say"] == "disk_full":
            self._put_back(job, "disk_full")
        elif answer["say"] == "stopped" and self._draining:
            self._put_back(job, "drain")

    def _put_back(self, job: str, reason: Requeue, *, died: bool = False) -> None:
        if reason == "disk_full":
            with self._cond:
                self._full = shutil.disk_usage(self._jobs.folders.root).free
        self._surely(self._jobs.life.requeue, job, reason, died=died)
        LOG.info("%s queued again: %s", job, reason)
        with self._cond:
            if self._current == job:
                self._current = self._live = None
            self._cond.notify_all()

    # --- the thread that hears the worker

    def _start_worker(self) -> None:
        self._worker = WorkerProcess(self._setup, self._hear, self._died)

    def _hear(self, message: dict[str, Any]) -> None:
        with self._cond:
            if message["say"] == "ready":
                self._ready, self._device = True, message["device"]
                self._cond.notify_all()
                self._said("ready")
                return
            if message["say"] == "unusable":
                self._closing = True
                self._cond.notify_all()
                self._broken(message["message"])
                return
            if message.get("request") == self._asked:
                self._answer = message
                self._cond.notify_all()
            if self._live is None or message.get("job") != self._current:
                return
            self._live.hear(message)
            self._pace = self._live.pace
            progress = self._live.progress
        self._jobs.hub.tell(progress)

    def _died(self, status: int) -> None:
        with self._cond:
            self._ready = False
            if self._closing:
                return
            LOG.error("the worker ended with status %d; another begins", status)
            now, job = time.monotonic(), self._current
            self._deaths.append(now)
            if len(self._deaths) == _DEATHS and now - self._deaths[0] < _WITHIN:
                self._broken(None)
                return
        if job is not None:
            self._put_back(job, "worker_died", died=True)
            if self._jobs.life.deaths(job) >= self._jobs.limits.max_tries:
                message = f"the process that made it ended {self._jobs.limits.max_tries} times; try other settings"
                self._surely(self._jobs.life.fail, job, JobFailure("worker_died", message))
        with self._cond:
            self._answer = {"say": "died"}
            self._start_worker()
            self._cond.notify_all()
        self._said("loading")

    # ---

    def _surely(self, write: Callable[..., Result], *args: Any, **named: Any) -> Result:
        """Write to the database, as soon as the disk has room.

        Raises:
          Leaving: the process ends before.
        """
        while True:
            try:
                return write(*args, **named)
            except OperationalError as error:
                LOG.error("the database cannot be written (%s); tried again", error.orig)
                if self._closing:
                    raise Leaving from None
                time.sleep(_LOOK_EVERY)

    def _status(self, job: str) -> str | None:
        """A job's status; None of one that is gone."""
        with self._jobs.database.reading() as connection:
            return connection.scalar(sql.select(JOBS.c.status).where(JOBS.c.id == job))
