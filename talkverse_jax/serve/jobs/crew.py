"""The processes that share a database: fronts, and workers with what they have in work.

Each tells every few seconds that it lives, by the database's clock. Who has not been seen for `DEAD_AFTER` seconds is
forgotten, and what it had in work is anybody's to put back. One that was only paused comes back as if it had just
begun; what it still writes of its jobs changes nothing (see `life`).
"""

import dataclasses
import hashlib
import json
import os
import secrets
import socket
from collections.abc import Mapping
from typing import Any, Literal

import sqlalchemy as sql
from sqlalchemy.engine import Connection

from talkverse_jax.core.errors import UserError
from talkverse_jax.serve.jobs.database import JOBS, MEMBERS, Database
from talkverse_jax.serve.jobs.job import Progress

TELL_EVERY = 5.0  # seconds
DEAD_AFTER = 30.0  # seconds

State = Literal["loading", "ready", "draining"]


class Crew:
    """The processes of a database, of which this is one.

    Args:
      works: whether this one is a worker.
      weights: what tells the models from others, see `digest_of`.

    Attributes:
      name: of this one, among all that ever were.
    """

    def __init__(self, database: Database, *, works: bool, weights: str):
        host = socket.gethostname()
        self.name = f"{host[:30]}-{os.getpid()}-{secrets.token_hex(4)}"
        self._database, self._weights = database, weights
        self._told: dict[str, Any] = {"works": works, "host": host[:255], "weights": weights, "doing": {}}
        self._told |= {"state": "loading", "device": 0}

    def join(self) -> None:
        """Begin to be one of them.

        Raises:
          UserError: others that live have other models.
        """
        with self._database.writing() as connection:
            others = sql.select(MEMBERS.c.host).where(self._alive(connection), MEMBERS.c.weights != self._weights)
            if (host := connection.scalar(others)) is not None:
                raise UserError(
                    f"are not those of {host}, which shares the database; give the same, or another --database",
                    field="weights",
                )
            self._write(connection)

    def tell(self, state: State, device: int = 0, doing: Mapping[str, Progress] | None = None) -> None:
        """Say that this one lives.

        Args:
          doing: how far each job is that it has in work.
        """
        told = {job: dataclasses.asdict(progress) for job, progress in (doing or {}).items()}
        self._told |= {"state": state, "device": device, "doing": told}
        with self._database.touching() as connection:
            self._write(connection)

    def leave(self) -> None:
        """Be none of them any more."""
        with self._database.touching() as connection:
            connection.execute(MEMBERS.delete().where(MEMBERS.c.name == self.name))

    def doing(self) -> dict[str, Progress]:
        """How far each job is that a living worker has in work."""
        with self._database.reading() as connection:
            told = connection.scalars(sql.select(MEMBERS.c.doing).where(self._alive(connection), MEMBERS.c.works))
            return {job: Progress(**values) for each in told for job, values in each.items()}

    def state(self) -> tuple[State, int]:
        """Whether any living worker is ready, and its device."""
        with self._database.reading() as connection:
            found = connection.execute(
                sql.select(MEMBERS.c.device)
                .where(self._alive(connection), MEMBERS.c.works, MEMBERS.c.state == "ready")
                .order_by(MEMBERS.c.name)
            ).first()
        return ("loading", 0) if found is None else ("ready", found[0])

    def lost(self) -> list[tuple[str, int]]:
        """The jobs in work of workers that live no more, each with its attempt; such workers are forgotten."""
        with self._database.touching() as connection:
            connection.execute(MEMBERS.delete().where(sql.not_(self._alive(connection))))
            alive = sql.select(MEMBERS.c.name)
            orphaned = sql.or_(JOBS.c.worker.is_(None), JOBS.c.worker.not_in(alive))
            rows = connection.execute(
                sql.select(JOBS.c.id, JOBS.c.attempt).where(JOBS.c.status == "in_progress", orphaned)
            )
            return [(job, attempt) for job, attempt in rows]

    def _alive(self, connection: Connection) -> sql.ColumnElement[bool]:
        return MEMBERS.c.seen_at >= self._database.now(connection) - DEAD_AFTER

    def _write(self, connection: Connection) -> None:
        values = self._told | {"seen_at": self._database.now(connection)}
        mine = MEMBERS.update().where(MEMBERS.c.name == self.name)
        if not connection.execute(mine.values(**values)).rowcount:
            connection.execute(MEMBERS.insert().values(name=self.name, **values))


def digest_of(*parts: Any) -> str:
    """What tells models from others, by all that makes them."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()
