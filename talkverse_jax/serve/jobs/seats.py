"""Who is in work: one job, or a pack of jobs of one shape whose steps are one work.

Of a job in work three may be at it: the thread that gives it its seat, that of its workflow (see `flow`), which asks
for a clip and waits, and that which hears the worker. What they share is here, under one condition.
"""

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from talkverse_jax.serve.jobs.flow import Leaving
from talkverse_jax.serve.jobs.live import Live

Answer = Mapping[str, Any]

_DIED: Answer = {"say": "died"}
_STOPPED: Answer = {"say": "stopped"}


@dataclass(eq=False)
class PackSeat:
    """A seat of the pack, and the job that has it.

    Attributes:
      attempt: of the job, when it was given its seat; it is in no other work here.
      shape: see `order.Waiting`.
      shelf: where what is made of it is kept, see `depot`.
      alone: whether nobody may join it: a process died over it.
      leaving: whether it is about to be put back.
      stopped: whether the job has ended.
      folder: in which it is made, once it is there.
      request: what its workflow waits for.
      number: of the request, once the worker has it.
      answer: the worker's, until the workflow has taken it.
    """

    job: str
    attempt: int
    shape: str | None
    live: Live
    shelf: str | None = None
    alone: bool = False
    leaving: bool = False
    stopped: bool = False
    folder: Path | None = None
    request: dict[str, Any] | None = None
    number: int | None = None
    answer: Answer | None = None

    @property
    def waits(self) -> bool:
        """Whether its request has not been given to the worker."""
        return self.request is not None and self.number is None and self.answer is None

    @property
    def wants_clip(self) -> bool:
        """Whether it waits with a request for a clip."""
        return self.waits and self.request is not None and self.request["clip"] is not None

    @property
    def in_hand(self) -> bool:
        """Whether the worker is at it."""
        return self.number is not None and self.answer is None


class PackSeats:
    """The seats.

    Args:
      size: most jobs in work.

    Attributes:
      changed: the condition; `tell` says that what is under it has changed.
      closing: whether the process ends.
    """

    def __init__(self, size: int):
        self.size = size
        self.changed = threading.Condition()
        self.closing = False
        self._news = False
        self._seats: dict[str, PackSeat] = {}
        self._sent = 0

    def tell(self) -> None:
        """Wake whoever waits."""
        with self.changed:
            self._news = True
            self.changed.notify_all()

    def wait_for_news(self, seconds: float) -> None:
        """Wait until something was told since the last time, at most so long; for one thread."""
        with self.changed:
            self.changed.wait_for(lambda: self._news, seconds)
            self._news = False

    def close(self) -> None:
        """The process ends: nobody waits any more."""
        with self.changed:
            self.closing = True
            self.tell()

    # --- who has one

    def all(self) -> list[PackSeat]:
        with self.changed:
            return list(self._seats.values())

    def of(self, job: str) -> PackSeat | None:
        with self.changed:
            return self._seats.get(job)

    def take(self, seat: PackSeat) -> None:
        """Give a job a free seat."""
        with self.changed:
            assert len(self._seats) < self.size and seat.job not in self._seats
            self._seats[seat.job] = seat

    def free(self, seat: PackSeat) -> None:
        """A job leaves its seat, if it has that still."""
        with self.changed:
            if self._seats.get(seat.job) is seat:
                del self._seats[seat.job]
            self.tell()

    def stop(self, seat: PackSeat) -> bool:
        """The try is over, and its workflow leaves the seat; whether that is news."""
        with self.changed:
            if seat.stopped or self._seats.get(seat.job) is not seat:
                return False
            seat.stopped = True
            if seat.waits:
                seat.answer = _STOPPED
            self.tell()
        return True

    # --- what is asked of the worker

    def ask(self, seat: PackSeat, request: dict[str, Any]) -> Answer:
        """The worker's answer; `died` where the job has lost its seat.

        Raises:
          Leaving: the process ends.
        """
        with self.changed:
            if self._seats.get(seat.job) is not seat:
                return _DIED
            if seat.stopped:
                return _STOPPED
            seat.request, seat.number, seat.answer = request, None, None
            self.tell()
            self.changed.wait_for(lambda: seat.answer or self.closing or self._seats.get(seat.job) is not seat)
            seat.request = None
            if seat.answer is not None:
                return seat.answer
            if self.closing:
                raise Leaving
            return _DIED

    def due(self) -> list[list[dict[str, Any]]]:
        """The requests that the worker is to be given now, those together that it does together: of clips once all in
        work wait for one."""
        with self.changed:
            clips = [seat for seat in self._seats.values() if seat.wants_clip]
            found = [[seat] for seat in self._seats.values() if seat.waits and not seat.wants_clip]
            if clips and len(clips) == len(self._seats):
                found.append(clips)
            return [[self._numbered(seat) for seat in together] for together in found]

    def _numbered(self, seat: PackSeat) -> dict[str, Any]:
        self._sent += 1
        seat.number = self._sent
        return {"request": seat.number, **(seat.request or {})}

    def hear(self, message: Mapping[str, Any]) -> None:
        """Take an answer, if somebody waits for it."""
        with self.changed:
            for seat in self._seats.values():
                if seat.in_hand and seat.number == message.get("request"):
                    seat.answer = message
                    self.tell()
