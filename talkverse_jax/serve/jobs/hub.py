"""Who listens to which job: events that are kept reach every subscriber, progress the latest only."""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

from talkverse_jax.serve.jobs.job import JobEvent, Progress

_MOST_WAITING = 256  # events of a subscriber
_PROGRESS_EVERY = 0.25  # seconds


class Subscription:
    """What happens to a job, as an asynchronous iterator: first the kept events, then progress and events as they
    come. It ends behind the last event, and where a subscriber has more waiting than it may.

    Made in any thread, read by one task.
    """

    def __init__(self, hub: "Hub", job: str, after: int):
        self._hub, self._job, self._last_number = hub, job, after
        self._lock = threading.Lock()
        self._waiting: deque[JobEvent] = deque()
        self._progress: Progress | None = None
        self._told: Progress | None = None
        self._told_at = 0.0
        self._ended = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wake = asyncio.Event()

    def put(self, event: JobEvent) -> None:
        """Hand over an event, unless it was already; from any thread. One behind another that is not here yet, as may
        be where several processes change a job, comes again with that one."""
        with self._lock:
            if self._ended:
                return
            if event.number is not None:
                if event.number != self._last_number + 1:
                    return
                self._last_number = event.number
            self._waiting.append(event)
            if len(self._waiting) > _MOST_WAITING:
                self._waiting.clear()
                self._ended = True
        self._awake()

    @property
    def last_number(self) -> int:
        """Of the last event that was handed over, or known before."""
        return self._last_number

    def put_progress(self, progress: Progress) -> None:
        """Tell how far the job is; only the latest is kept; from any thread."""
        with self._lock:
            self._progress = progress
        self._awake()

    def _awake(self) -> None:
        if (loop := self._loop) is not None and not loop.is_closed():
            loop.call_soon_threadsafe(self._wake.set)

    def __aiter__(self) -> "Subscription":
        return self

    async def __anext__(self) -> JobEvent | Progress:
        self._loop = asyncio.get_running_loop()
        while True:
            self._wake.clear()
            found, wait = self._next()
            if found is not None:
                return found
            if self._ended:
                self.close()
                raise StopAsyncIteration
            try:
                await asyncio.wait_for(self._wake.wait(), wait)
            except TimeoutError:
                continue

    def _next(self) -> tuple[JobEvent | Progress | None, float | None]:
        """What comes next; or None, and after how many seconds to look again."""
        with self._lock:
            if self._waiting:
                event = self._waiting.popleft()
                self._ended = self._ended or event.last
                return event, None
            progress = self._progress
            if self._ended or progress is None or progress == self._told:
                return None, None
            wait = self._told_at + _PROGRESS_EVERY - time.monotonic()
            if self._told is not None and wait > 0:
                return None, wait
            self._told, self._told_at = progress, time.monotonic()
            return progress, None

    def close(self) -> None:
        """Listen no more."""
        self._hub.remove(self._job, self)


class Hub:
    """The subscribers of all jobs."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._subscribers: dict[str, list[Subscription]] = {}

    def subscribe(
        self, job: str, after: int, kept: Callable[[], Sequence[JobEvent]], progress: Callable[[], Progress | None]
    ) -> Subscription:
        """Listen to a job.

        Args:
          after: the number of the last event that is known.
          kept: gives the events behind it.
          progress: gives how far the job is.
        """
        made = Subscription(self, job, after)
        with self._lock:
            self._subscribers.setdefault(job, []).append(made)
            for event in kept():  # what is published meanwhile waits for the lock, and is known then
                made.put(event)
        if (now := progress()) is not None:
            made.put_progress(now)
        return made

    def listened(self) -> list[str]:
        """Jobs that somebody listens to."""
        with self._lock:
            return list(self._subscribers)

    def known(self, job: str) -> int:
        """The number of the last event that all subscribers of a job have."""
        return min((each.last_number for each in self._of(job)), default=0)

    def gone(self, job: str) -> None:
        """Tell the subscribers of a job that it was deleted."""
        for each in self._of(job):
            each.put(JobEvent(each.last_number + 1, "deleted", {"id": job}))

    def publish(self, job: str, event: JobEvent) -> None:
        """Tell the subscribers of a job what happened; what is kept must be on the disk."""
        for each in self._of(job):
            each.put(event)

    def tell(self, progress: Progress) -> None:
        """Tell the subscribers of a job how far it is."""
        for each in self._of(progress.id):
            each.put_progress(progress)

    def publish_all(self, event: JobEvent) -> None:
        """Tell everybody."""
        for job in self.listened():
            self.publish(job, event)

    def remove(self, job: str, subscription: Subscription) -> None:
        with self._lock:
            left = [each for each in self._subscribers.get(job, ()) if each is not subscription]
            if left:
                self._subscribers[job] = left
            else:
                self._subscribers.pop(job, None)

    def _of(self, job: str) -> list[Subscription]:
        with self._lock:
            return list(self._subscribers.get(job, ()))
