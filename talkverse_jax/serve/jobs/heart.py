"""The thread of a process that shares a database: says that it lives, and puts back what the dead had in work."""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress

from talkverse_jax.serve.jobs.crew import TELL_EVERY, Crew, State
from talkverse_jax.serve.jobs.job import Progress
from talkverse_jax.serve.jobs.life import Life
from talkverse_jax.serve.jobs.postgres import Unreachable

LOG = logging.getLogger("talkverse_jax.serve")

Told = tuple[State, int, Mapping[str, Progress]]


class Heart:
    """Beats until it is closed.

    Args:
      told: gives what is to be told of this process: state, device, how far its jobs are. What has changed is told at
        the next beat.
      max_tries: of a job whose workers die.
      beat: is called at each beat.
      every: seconds between two.
    """

    def __init__(
        self,
        crew: Crew,
        life: Life,
        *,
        told: Callable[[], Told],
        max_tries: int,
        beat: Callable[[], None],
        every: float,
    ):
        self._crew, self._life, self._told, self._most = crew, life, told, max_tries
        self._beat, self._every = beat, every
        self._last: Told | None = None
        self._tell_at = 0.0
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heart", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Stop, and leave the others."""
        self._stopped.set()
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._thread.join()
        with suppress(Unreachable):  # then the others miss it
            self._crew.leave()

    def _run(self) -> None:
        while not self._stopped.wait(self._every):
            try:
                self._live()
            except Unreachable:
                self._last = None
            except Exception:
                LOG.exception("the heart missed a beat")

    def _live(self) -> None:
        told, due = self._told(), time.monotonic() >= self._tell_at
        if due or told != self._last:
            self._crew.tell(*told)
            self._last = told
        if due:
            self._tell_at = time.monotonic() + TELL_EVERY
            for job, attempt in self._crew.lost():
                LOG.warning("%s: its worker is gone", job)
                self._life.died(job, self._most, attempt=attempt)
        self._beat()
