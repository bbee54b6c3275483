"""What is written of jobs in work: as soon as the disk has room, or not at all."""

import logging
import shutil
import time
from collections.abc import Callable
from typing import Any, TypeVar

from sqlalchemy.exc import OperationalError

from talkverse_jax.core.errors import disk_is_full
from talkverse_jax.serve.jobs.flow import Leaving
from talkverse_jax.serve.jobs.job import ENDED, Requeue
from talkverse_jax.serve.jobs.jobs import Jobs, Row
from talkverse_jax.serve.jobs.postgres import Unreachable
from talkverse_jax.serve.jobs.seats import PackSeat, PackSeats

LOG = logging.getLogger("talkverse_jax.serve")

_AGAIN = 1.0  # seconds between two tries to write
_LONGEST = 10.0  # seconds between two tries of a store
_ROOM_AGAIN = 1 << 20  # bytes more than there were when it was full

Result = TypeVar("Result")


class Books:
    """Writes into the tables of the jobs.

    Args:
      worker: the name of this one, where there are several.
    """

    def __init__(self, jobs: Jobs, seats: PackSeats, worker: str | None = None):
        self._jobs, self._seats, self._worker = jobs, seats, worker
        self._full: int | None = None  # free bytes when the disk was full

    def surely(self, write: Callable[..., Result], *args: Any, **named: Any) -> Result:
        """Write to the database, or read, as soon as the disk has room and the database answers.

        Raises:
          Leaving: the process ends before.
        """
        while True:
            try:
                return write(*args, **named)
            except OperationalError as error:
                LOG.error("the database cannot be written (%s); tried again", error.orig)
            except Unreachable:
                pass  # has been told
            if self._seats.closing:
                raise Leaving from None
            time.sleep(_AGAIN)

    def stored(self, seat: PackSeat, do: Callable[[], Result]) -> Result | None:
        """Have files of a job fetched or kept, as soon as their store answers; None where the try is over before.

        Raises:
          Leaving: the process ends before.
        """
        wait = _AGAIN
        while True:
            try:
                return do()
            except Exception as error:  # of many kinds, by the kind of store
                if disk_is_full(error):
                    self.put_back(seat, "disk_full")
                    return None
                LOG.error("%s: its files cannot be fetched or kept (%s); tried again", seat.job, error)
            if self._seats.closing:
                raise Leaving
            time.sleep(wait)
            wait = min(2 * wait, _LONGEST)
            if self.surely(self.row, seat) is None:
                return None

    def shelf(self, attempt: int) -> str | None:
        """Where what this worker makes in a try is kept, see `depot`."""
        return None if self._worker is None else f"{attempt}-{self._worker}"

    def row(self, seat: PackSeat) -> Row | None:
        """The row of a job in work; None where it has ended, or another try has begun elsewhere."""
        row = self._jobs.row(seat.job)
        return None if row is None or row["status"] in ENDED or row["attempt"] != seat.attempt else row

    def put_back(self, seat: PackSeat, reason: Requeue) -> None:
        """Have a job wait for another turn; its seat is free then."""
        if reason == "disk_full":
            self._full = shutil.disk_usage(self._jobs.folders.root).free
        seat.leaving = True
        self.surely(self._jobs.life.requeue, seat.job, reason, attempt=seat.attempt)
        self._free(seat, reason)

    def died(self, seat: PackSeat, *, blamed: bool, alone: bool) -> None:
        """The worker died: have a job wait for another turn, or end it if that was too often.

        Args:
          blamed: whether the worker was at it.
          alone: whether at nothing else; of several nobody knows whose fault it was.
        """
        seat.leaving = True
        if alone:
            self.surely(self._jobs.life.died, seat.job, self._jobs.limits.max_tries, attempt=seat.attempt)
        else:
            self.surely(self._jobs.life.requeue, seat.job, "worker_died", died=blamed, attempt=seat.attempt)
        self._free(seat, "worker_died")

    def _free(self, seat: PackSeat, reason: Requeue) -> None:
        LOG.info("%s queued again: %s", seat.job, reason)
        self._seats.free(seat)

    @property
    def is_full(self) -> bool:
        """Whether the disk was full, and nobody has seen room since."""
        return self._full is not None

    def has_room(self) -> bool:
        """Whether the disk has room for another job, behind a full one a little more than there was."""
        free = shutil.disk_usage(self._jobs.folders.root).free
        if free < self._jobs.limits.min_free_bytes or (self._full is not None and free < self._full + _ROOM_AGAIN):
            return False
        self._full = None
        return True
