"""Idempotency: a request that is repeated with the same key makes one job."""

import threading

import sqlalchemy as sql

from talkverse_jax.serve.jobs.database import KEYS, Database
from talkverse_jax.serve.jobs.job import Refused


class Keys:
    """The keys of all owners: those of jobs are in the database, those of requests in the air are held here."""

    def __init__(self, database: Database):
        self._database = database
        self._lock = threading.Lock()
        self._in_air: set[tuple[str, str]] = set()

    def reserve(self, owner: str, key: str) -> bool:
        """Whether a job is known by the key; if none is, the key is this request's until `release`.

        Raises:
          Refused: another request has it.
        """
        with self._lock:
            if self._find(owner, key) is not None:
                return True
            if (owner, key) in self._in_air:
                raise in_progress()
            self._in_air.add((owner, key))
            return False

    def release(self, owner: str, key: str) -> None:
        """The request has been answered: its job, if it made one, is known by the key."""
        with self._lock:
            self._in_air.discard((owner, key))

    def job_of(self, owner: str, key: str, digest: str) -> str | None:
        """The id of the job that a key was first sent for, also of one that is gone; None where there is none.

        Raises:
          Refused: the key was sent with other fields or bytes.
        """
        found = self._find(owner, key)
        if found is None:
            return None
        job, first = found
        if first != digest:
            message = "this Idempotency-Key was sent with another request; take a new one"
            raise Refused(409, "idempotency_key_reused", message)
        return job

    def _find(self, owner: str, key: str) -> tuple[str, str] | None:
        with self._database.reading() as connection:
            row = connection.execute(
                sql.select(KEYS.c.job, KEYS.c.digest).where(KEYS.c.owner == owner, KEYS.c.key == key)
            ).first()
        return None if row is None else (row[0], row[1])


def in_progress() -> Refused:
    """Another request with the same key is in the air."""
    message = "a request with this Idempotency-Key is being served; repeat it in a second"
    return Refused(409, "idempotency_in_progress", message, 1)
