"""The worker, lent to one live video at a time; jobs wait meanwhile."""

import threading
from collections.abc import Callable
from typing import Any

from talkverse_jax.serve.jobs.job import Refused

Hear = Callable[[dict[str, Any]], None]


class Lending:
    """Who has the worker besides the jobs."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._session: str | None = None
        self._heard: Hear = lambda message: None

    @property
    def session(self) -> str | None:
        """The live video that has it."""
        return self._session

    def lend(self, session: str, hear: Hear) -> None:
        """Lend it.

        Args:
          hear: gets what the worker says of the session, in the worker's thread; the last has `ended`.

        Raises:
          Refused: another has it.
        """
        with self._lock:
            if self._session is not None:
                raise Refused(503, "busy", "another live video is being made; try again later", 30)
            self._session, self._heard = session, hear

    def hear(self, message: dict[str, Any]) -> None:
        """Pass on what the worker says; behind the last it is free."""
        with self._lock:
            if message.get("session") != self._session or self._session is None:
                return
            heard = self._heard
            if "ended" in message:
                self._session = None
        heard(message)

    def died(self) -> None:
        """The worker has."""
        if (session := self._session) is not None:
            self.hear({"session": session, "ended": "the server's worker died; try again"})
