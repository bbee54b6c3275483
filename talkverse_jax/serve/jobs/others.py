"""The workers elsewhere, as a front without one sees them: what they do is read from the database, twice a second."""

import time
from collections.abc import Callable, Mapping
from typing import Any

import sqlalchemy as sql

from talkverse_jax.serve.jobs.crew import Crew, State
from talkverse_jax.serve.jobs.database import EVENTS, JOBS
from talkverse_jax.serve.jobs.heart import Heart, Told
from talkverse_jax.serve.jobs.job import JobEvent, Progress, Refused
from talkverse_jax.serve.jobs.jobs import Jobs
from talkverse_jax.serve.jobs.lending import Hear
from talkverse_jax.serve.jobs.life import turns
from talkverse_jax.serve.jobs.live import progress_of

_LOOK_EVERY = 0.5  # seconds
_RETAIN_EVERY = 600.0  # seconds


class Others:
    """Makes no jobs, but tells of those who do.

    Args:
      said: is called with the state when that changes.
    """

    def __init__(self, jobs: Jobs, crew: Crew, said: Callable[[str], None] = lambda state: None):
        self._jobs, self._crew, self._said = jobs, crew, said
        self._state: State = "loading"
        self._device = 0
        self._draining = False
        self._doing: Mapping[str, Progress] = {}
        self._retain_at = 0.0
        most = jobs.limits.max_tries
        self._heart = Heart(crew, jobs.life, told=self._told, max_tries=most, beat=self._look, every=_LOOK_EVERY)

    def start(self) -> None:
        """Begin to look.

        Raises:
          UserError: they have other models.
        """
        self._crew.join()
        self._jobs.attach(self)
        self._heart.start()

    def changed(self, job: str) -> None:
        pass  # they look for themselves

    def progress(self, job: str) -> Progress | None:
        return self._doing.get(job)

    def health(self) -> tuple[State, int]:
        return ("draining" if self._draining else self._state), self._device

    def drain(self, seconds: float) -> None:
        """Tell who listens that this process ends; the jobs go on."""
        self._draining = True
        self._jobs.hub.publish_all(JobEvent(None, "server", {"state": "draining"}))
        self.close()

    def close(self) -> None:
        self._heart.close()

    def kill(self) -> None:
        pass

    def lend(self, message: dict[str, Any], hear: Hear) -> None:
        raise Refused(501, "not_enabled", "servers that share a database make no live videos; ask one that does not")

    def pass_on(self, message: dict[str, Any]) -> None:
        pass

    def _told(self) -> Told:
        return ("draining" if self._draining else "ready"), 0, {}

    def _look(self) -> None:
        before = self._state
        self._state, self._device = self._crew.state()
        if self._state != before:
            self._said(self._state)
        self._doing = self._crew.doing()
        if listened := self._jobs.hub.listened():
            self._tell(listened)
        if time.monotonic() > self._retain_at:
            self._retain_at = time.monotonic() + _RETAIN_EVERY
            self._jobs.retain()

    def _tell(self, listened: list[str]) -> None:
        """Tell subscribers what has happened to their jobs."""
        hub = self._jobs.hub
        unknown = [sql.and_(EVENTS.c.job == job, EVENTS.c.number > hub.known(job)) for job in listened]
        events = sql.select(EVENTS).where(sql.or_(*unknown)).order_by(EVENTS.c.job, EVENTS.c.number)
        with self._jobs.database.reading() as connection:
            rows = connection.execute(sql.select(JOBS).where(JOBS.c.id.in_(listened))).mappings().all()
            found = connection.execute(events).mappings().all()
            waits = any(row["status"] == "queued" for row in rows)
            order = [each.id for each in turns(connection)] if waits else []
        for event in found:
            hub.publish(event["job"], JobEvent(event["number"], event["kind"], event["data"]))
        for row in rows:
            hub.tell(progress_of(row, order, self._doing.get(row["id"])))
        for job in set(listened) - {row["id"] for row in rows}:
            hub.gone(job)
