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
from contextlib import suppress
from typing import Any, Literal

from talkverse_jax.serve.jobs.books import Books
from talkverse_jax.serve.jobs.crew import Crew
from talkverse_jax.serve.jobs.flow import Flow, Leaving, flow_url
from talkverse_jax.serve.jobs.heart import Heart, Told
from talkverse_jax.serve.jobs.job import JobEvent, Progress, Refused
from talkverse_jax.serve.jobs.jobs import Jobs
from talkverse_jax.serve.jobs.lending import Hear, Lending
from talkverse_jax.serve.jobs.life import turns
from talkverse_jax.serve.jobs.live import Live
from talkverse_jax.serve.jobs.order import Waiting, joining
from talkverse_jax.serve.jobs.postgres import Unreachable
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
      broken: is called when nothing can be made: with a line for the person where the models cannot be used, with
        None when the worker died too often.
      said: is called with the state when that changes.
      crew: the others, where there are several workers.
    """

    def __init__(
        self,
        jobs: Jobs,
        setup: WorkerSetup,
        *,
        broken: Callable[[str | None], None],
        said: Callable[[str], None] = lambda state: None,
        crew: Crew | None = None,
    ):
        self._jobs, self._setup, self._broken, self._said = jobs, setup, broken, said
        self._seats = PackSeats(setup.pack)
        self._crew, self._heart = crew, None
        self._lending = Lending()
        self._books = Books(jobs, self._seats, crew.name if crew else None)
        self._worker: WorkerProcess | None = None
        self._ready = self._draining = False
        self._follows = False  # the worker does what that of another process does, and is asked for nothing
        self._ended = threading.Event()  # the worker has
        self._device = 0
        self._pace: float | None = None  # of the last clip
        self._deaths: deque[float] = deque(maxlen=_DEATHS)
        self._retain_at = 0.0
        self._thread = threading.Thread(target=self._take_jobs, name="jobs", daemon=True)

    # --- from outside

    def start(self) -> None:
        """Start a worker, and begin; behind `Jobs.recover`.

        Raises:
          UserError: others have other models.
        """
        if (crew := self._crew) is not None:
            crew.join()
            most = self._jobs.limits.max_tries
            self._heart = Heart(
                crew, self._jobs.life, told=self._told, max_tries=most, beat=self._look, every=_LOOK_EVERY
            )
            self._heart.start()
        self._jobs.attach(self)
        self._start_worker()
        self._thread.start()

    def changed(self, job: str) -> None:
        if (seat := self._seats.of(job)) is not None and not seat.leaving:
            with suppress(Unreachable):  # then it is found at another look
                self._stop_if_over(seat)
        self._seats.tell()

    def _stop_if_over(self, seat: PackSeat) -> None:
        if self._books.row(seat) is None and self._seats.stop(seat) and self._worker:
            self._worker.send({"do": "stop", "job": seat.job})

    def _told(self) -> Told:
        return *self.health(), {seat.job: seat.live.progress for seat in self._seats.all()}

    def _look(self) -> None:
        """Leave what others have ended, or taken."""
        for seat in self._seats.all():
            if not seat.leaving:
                self._stop_if_over(seat)

    def progress(self, job: str) -> Progress | None:
        seat = self._seats.of(job)
        return seat.live.progress if seat else None

    def health(self) -> tuple[Literal["loading", "ready", "draining"], int]:
        return ("draining" if self._draining else "ready" if self._ready else "loading"), self._device

    def lend(self, message: dict[str, Any], hear: Hear) -> None:
        with self._seats.changed:
            if not self._ready or self._draining or self._worker is None:
                raise Refused(503, "not_ready", "the server is not ready; try again later", 10)
            if self._seats.all():
                raise Refused(503, "busy", "a video is being made; try again when it is done", 30)
            self._lending.lend(message["session"], hear)
            self._worker.send({"do": "live", **message})

    def pass_on(self, message: dict[str, Any]) -> None:
        if self._worker is not None and message["session"] == self._lending.session:
            self._worker.send(message)

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
        if (session := self._lending.session) is not None:
            self.pass_on({"do": "sound", "session": session, "pcm": None})
        if self._follows:  # the other one ends it
            self._ended.wait(seconds + _LEAVE_WITHIN)
        if not self._are_gone(seconds) and self._worker:
            for seat in self._seats.all():
                self._worker.send({"do": "stop", "job": seat.job})
            self._are_gone(_LEAVE_WITHIN)
        self._seats.close()
        for seat in self._seats.all():
            with suppress(Leaving):  # the database does not answer
                self._books.put_back(seat, "drain")
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
        if self._heart is not None:
            self._heart.close()
        if threading.current_thread() is not self._thread:
            self._thread.join(_END_WITHIN)

    def kill(self) -> None:
        """End the worker at once; what it has finished is on the disk."""
        if self._worker:
            self._worker.kill()

    # --- the thread that takes jobs

    def _take_jobs(self) -> None:
        steps = Steps(self._jobs, self._seats, self._books, lambda: self._draining)
        url = self._jobs.database.url if self._crew else flow_url(self._jobs.folders.root)
        try:
            flow = Flow(url, steps, self._crew.name if self._crew else uuid.uuid4().hex)
        except Exception:
            LOG.exception("the workflows' database cannot be used")
            self._broken(None)
            return
        try:
            while not self._seats.closing:
                with suppress(Unreachable):
                    self._take(flow)
                self._seats.wait_for_news(_LOOK_EVERY)
        except Leaving:
            pass
        finally:
            flow.close()

    def _take(self, flow: Flow) -> None:
        """Give free seats away, and the worker what is to be done."""
        if time.monotonic() > self._retain_at and self._crew is None:
            self._retain_at = time.monotonic() + _RETAIN_EVERY
            self._books.surely(self._jobs.retain)
        while self._can_take() and (found := self._whose_turn()) is not None:
            self._begin(flow, found)
        self._ask_worker()

    def _can_take(self) -> bool:
        free = len(self._seats.all()) < self._seats.size
        lent = self._lending.session is not None
        return self._ready and not self._draining and not lent and free and self._books.has_room()

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
        """Put a job into work, unless it has gone meanwhile, or another has it."""
        row = self._jobs.row(waiting.id)
        if row is None:
            return
        job, attempt, done, clips = waiting.id, row["attempt"], row["clips_done"], row["submission"]["clips"]
        live, shelf = Live(job, clips, done, self._pace), self._books.shelf(attempt)
        seat = PackSeat(job, attempt, waiting.shape, live, shelf, alone=waiting.deaths > 0)
        self._seats.take(seat)
        try:
            if not self._jobs.life.start(job, worker=self._crew.name if self._crew else None, attempt=attempt):
                self._seats.free(seat)
                if self._jobs.row(job) is None:
                    self._jobs.folders.remove(job)
                return
            LOG.info("%s in_progress", job)
            flow.run(job, attempt, done, clips)
        except Unreachable:
            self._books.put_back(seat, "restart")
        except Exception as error:  # such as a database on a full disk
            LOG.error("%s: cannot begin (%s)", job, error)
            self._books.put_back(seat, "disk_full")

    def _ask_worker(self) -> None:
        """Give the worker what is to be done now; where nothing more is to be begun, the jobs wait for another turn."""
        if self._draining or self._books.is_full:
            for seat in self._seats.all():
                if seat.wants_clip:
                    self._books.put_back(seat, "drain" if self._draining else "disk_full")
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
        if message["say"] == "follows":
            self._follows = True
            self._said("ready")
            return
        if message["say"] == "unusable":
            self._seats.close()
            self._broken(message["message"])
            return
        if message["say"] == "live":
            self._lending.hear(message)
            self._seats.tell()
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
            self._ended.set()
            if self._seats.closing or (self._follows and self._draining):
                return
            seats = self._seats.all()
            in_hand = [seat for seat in seats if seat.in_hand]
        self._lending.died()
        LOG.error("the worker ended with status %d; another begins", status)
        now = time.monotonic()
        self._deaths.append(now)
        if len(self._deaths) == _DEATHS and now - self._deaths[0] < _WITHIN:
            self._broken(None)
            return
        for seat in seats:
            self._books.died(seat, blamed=seat in in_hand, alone=in_hand == [seat])
        self._start_worker()
        self._said("loading")
