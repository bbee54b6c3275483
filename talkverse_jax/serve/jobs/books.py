"""What is written of jobs in work: as soon as the disk has room, or not at all."""

import logging
import shutil
import time
from collections.abc import Callable
from typing import Any, TypeVar

import sqlalchemy as sql
from sqlalchemy.exc import OperationalError

from talkverse_jax.serve.jobs.database import JOBS
from talkverse_jax.serve.jobs.flow import Leaving
from talkverse_jax.serve.jobs.job import ENDED, Requeue
from talkverse_jax.serve.jobs.jobs import Jobs
from talkverse_jax.serve.jobs.seats import PackSeats

LOG = logging.getLogger("talkverse_jax.serve")

_AGAIN = 1.0  # seconds between two tries to write
_ROOM_AGAIN = 1 << 20  # bytes more than there were when it was full

Result = TypeVar("Result")


class Books:
    """Writes into the tables of the jobs."""

    def __init__(self, jobs: Jobs, seats: PackSeats):
        self._jobs, self._seats = jobs, seats
        self._full: int | None = None  # free bytes when the disk was full

    def surely(self, write: Callable[..., Result], *args: Any, **named: Any) -> Result:
        """Write to the database, as soon as the disk has room.

        Raises:
          Leaving: the process ends before.
        """
        while True:
            try:
                return write(*args, **named)
            except OperationalError as error:
                LOG.error("the database cannot be written (%s); tried again", error.orig)
                if self._seats.closing:
                    raise Leaving from None
                time.sleep(_AGAIN)

    def status(self, job: str) -> str | None:
        """A job's status; None of one that is gone."""
        with self._jobs.database.reading() as connection:
            return connection.scalar(sql.select(JOBS.c.status).where(JOBS.c.id == job))

    def has_ended(self, job: str) -> bool:
        return self.status(job) in (None, *ENDED)

    def put_back(self, job: str, reason: Requeue) -> None:
        """Have a job wait for another turn; its seat is free then."""
        if reason == "disk_full":
            self._full = shutil.disk_usage(self._jobs.folders.root).free
        self.surely(self._jobs.life.requeue, job, reason)
        self._free(job, reason)

    def died(self, job: str, *, blamed: bool, alone: bool) -> None:
        """The worker died: have a job wait for another turn, or end it if that was too often.

        Args:
          blamed: whether the worker was at it.
          alone: whether at nothing else; of several nobody knows whose fault it was.
        """
        if alone:
            self.surely(self._jobs.life.died, job, self._jobs.limits.max_tries)
        else:
            self.surely(self._jobs.life.requeue, job, "worker_died", died=blamed)
        self._free(job, "worker_died")

    def _free(self, job: str, reason: Requeue) -> None:
        LOG.info("%s queued again: %s", job, reason)
        self._seats.free(job)

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
