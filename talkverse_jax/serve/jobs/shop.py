"""Who makes the jobs: gives them seats in the order of their turns, has a worker make their clips, and keeps worker
and jobs going whatever ends: the worker, the disk's room, or this process.

With one seat jobs are made one after another. With more, waiting jobs of the shape of the first take the others, also
when a seat becomes free at a clip's end, and the worker is asked for the clips of all at once. Seats that nobody can
take stay empty, and nobody waits for company.
"""

import logging
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable
from typing import Any, Literal

from talkverse_jax.serve.jobs.books import Books
from talkverse_jax.serve.jobs.flow import Flow, flow_url
from talkverse_jax.serve.jobs.job import JobEvent, Progress
from talkverse_jax.serve.jobs.jobs import Jobs
from talkverse_jax.serve.jobs.life import turns
from talkverse_jax.serve.jobs.live import Live
from talkverse_jax.serve.jobs.order import Waiting, joining
from talkverse_jax.serve.jobs.seats import PackSeat, PackSeats
from talkverse_jax.serve.jobs.steps import Steps
from talkverse_jax.serve.worker.process import WorkerProcess, WorkerSetup

LOG = logging.getLogger("talkverse_jax.serve")

_DEATHS, _WITHIN = 5, 600.0  # so many deaths of the worker in so many seconds: something else is wrong
_LOOK_EVERY = 1.0  # seconds, for jobs and for room on the disk
_RETAIN_EVERY = 600.0  # seconds
_END_WITHIN = 3.0  # seconds for the thread that takes jobs
_LEAVE_WITHIN = 4.0  # seconds for a worker to come to the end of a step


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
        self._seats = PackSeats(setup.pack)
        self._books = Books(jobs, self._seats)
        self._worker: WorkerProcess | None = None
        self._ready = self._draining = False
        self._device = 0
        self._running: set[str] = set()  # workflows of this process
        self._pace: float | None = None  # of the last clip
        self._deaths: deque[float] = deque(maxlen=_DEATHS)
        self._retain_at = 0.0
        self._thread = threading.Thread(target=self._take_jobs, name="jobs", daemon=True)

    # --- from outside

    def start(self) -> None:
        """Start a worker, and begin; behind `Jobs.recover`."""
        self._jobs.attach(self)
        self._start_worker()
        self._thread.start()

    def changed(self, job: str) -> None:
        if self._seats.of(job) is not None and self._books.has_ended(job) and self._seats.stop(job) and self._worker:
            self._worker.send({"do": "stop", "job": job})
        self._seats.tell()

    def progress(self, job: str) -> Progress | None:
        seat = self._seats.of(job)
        return seat.live.progress if seat else None

    def health(self) -> tuple[Literal["loading", "ready", "draining"], int]:
        return ("draining" if self._draining else "ready" if self._ready else "loading"), self._device

    @property
    def worker_pid(self) -> int | None:
        """Of the worker's process."""
        return self._worker.pid if self._worker else None

    def drain(self, seconds: float) -> None:
        """Take no further job; let the clips in work be finished if that takes at most so many seconds, else leave them
        at the next step; and end the worker."""
        self._draining = True
        self._seats.tell()
        self._jobs.hub.publish_all(JobEvent(None, "server", {"state": "draining"}))
        if not self._are_gone(seconds) and self._worker:
            for seat in self._seats.all():
                self._worker.send({"do": "stop", "job": seat.job})
            self._are_gone(_LEAVE_WITHIN)
        for seat in self._seats.all():
            self._books.put_back(seat.job, "drain")
        self.close()

    def _are_gone(self, seconds: float) -> bool:
        """Wait for all seats to be free; whether they are."""
        with self._seats.changed:
            return self._seats.changed.wait_for(lambda: not self._seats.all(), seconds)

    def close(self) -> None:
        """End the worker, and have done."""
        self._draining = True
        self._seats.close()
        self.kill()
        if threading.current_thread() is not self._thread:
            self._thread.join(_END_WITHIN)

    def kill(self) -> None:
        """End the worker at once; what it has finished is on the disk."""
        if self._worker:
            self._worker.kill()

    # --- the thread that takes jobs

    def _take_jobs(self) -> None:
        steps = Steps(self._jobs, self._seats, self._books, lambda: self._draining, self._running.discard)
        try:
            flow = Flow(self._url, steps, uuid.uuid4().hex)
        except Exception:
            LOG.exception("the workflows' database cannot be used")
            self._broken(None)
            return
        try:
            while not self._seats.closing:
                if time.monotonic() > self._retain_at:
                    self._retain_at = time.monotonic() + _RETAIN_EVERY
                    self._books.surely(self._jobs.retain)
                while self._can_take() and (found := self._whose_turn()) is not None:
                    self._begin(flow, found)
                self._ask_worker()
                self._seats.wait_for_news(_LOOK_EVERY)
        finally:
            flow.close()

    def _can_take(self) -> bool:
        free = len(self._seats.all()) < self._seats.size
        return self._ready and not self._draining and free and self._books.has_room()

    def _whose_turn(self) -> Waiting | None:
        """The job that takes the next seat; None where there is none that may."""
        with self._jobs.database.reading() as connection:
            found = turns(connection)
        seats = self._seats.all()
        if not seats:
            return found[0] if found else None
        if any(seat.alone for seat in seats):
            return None
        return joining(found, seats[0].shape, max(seat.live.clips_left for seat in seats))

    def _begin(self, flow: Flow, waiting: Waiting) -> None:
        job = waiting.id
        try:
            clips = self._put_to_work(waiting)
            if clips is not None and job not in self._running:
                self._running.add(job)
                flow.run(job, clips)
        except Exception as error:  # such as a database on a full disk
            LOG.error("%s: cannot begin (%s)", job, error)
            self._running.discard(job)
            self._books.put_back(job, "disk_full")

    def _put_to_work(self, waiting: Waiting) -> int | None:
        """Give a job a seat and put it into work; its number of clips, or None where it has gone meanwhile."""
        job = waiting.id
        row = self._jobs.row(job)
        if row is None:
            return None
        clips = row["submission"]["clips"]
        live = Live(job, clips, row["clips_done"], self._pace)
        self._seats.take(PackSeat(job, waiting.shape, live, alone=waiting.deaths > 0))
        if not self._jobs.life.start(job):
            self._seats.free(job)
            if self._books.status(job) is None:
                self._jobs.folders.remove(job)
            return None
        LOG.info("%s in_progress", job)
        self._seats.begin(job)
        return clips

    def _ask_worker(self) -> None:
        """Give the worker what is to be done now; where nothing more is to be begun, the jobs wait for another turn."""
        if self._draining or self._books.is_full:
            for seat in self._seats.all():
                if seat.wants_clip:
                    self._books.put_back(seat.job, "drain" if self._draining else "disk_full")
        with self._seats.changed:  # a worker that dies meanwhile is known to have it
            if (worker := self._worker) is not None and self._ready:
                jobs = [seat.job for seat in self._seats.all()]
                for requests in self._seats.due():
                    worker.send({"do": "make", "requests": requests, "jobs": jobs})

    # --- the thread that hears the worker

    def _start_worker(self) -> None:
        with self._seats.changed:  # it may be heard at once
            self._worker = WorkerProcess(self._setup, self._hear, self._died)

    def _hear(self, message: dict[str, Any]) -> None:
        if message["say"] == "ready":
            with self._seats.changed:
                self._ready, self._device = True, message["device"]
                self._seats.tell()
            self._said("ready")
            return
        if message["say"] == "unusable":
            self._seats.close()
            self._broken(message["message"])
            return
        if (seat := self._seats.of(message.get("job", ""))) is not None:
            seat.live.hear(message)
            self._pace = seat.live.pace
        self._seats.hear(message)
        if seat is not None:
            self._jobs.hub.tell(seat.live.progress)

    def _died(self, status: int) -> None:
        with self._seats.changed:
            self._ready = False
            if self._seats.closing:
                return
            seats = self._seats.all()
            in_hand = [seat.job for seat in seats if seat.in_hand]
        LOG.error("the worker ended with status %d; another begins", status)
        now = time.monotonic()
        self._deaths.append(now)
        if len(self._deaths) == _DEATHS and now - self._deaths[0] < _WITHIN:
            self._broken(None)
            return
        for seat in seats:
            self._books.died(seat.job, blamed=seat.job in in_hand, alone=in_hand == [seat.job])
        self._start_worker()
        self._said("loading")
