"""The jobs' tables. A file of SQLite by default; any database that SQLAlchemy speaks to by its URL.

What a transaction wrote is on the disk when it ends.
"""

import dataclasses
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sql
from sqlalchemy import event
from sqlalchemy.engine import Connection, RowMapping

from talkverse_jax.serve.jobs.job import JobEvent, JobFailure, Record, Submission

TABLES = sql.MetaData()

# SQLite gives away a number anew only with AUTOINCREMENT, and numbers are the order of admission.
JOBS = sql.Table(
    "jobs",
    TABLES,
    sql.Column("number", sql.Integer, primary_key=True),
    sql.Column("id", sql.String(64), nullable=False, unique=True),
    sql.Column("owner", sql.String(255), nullable=False, index=True),
    sql.Column("status", sql.String(16), nullable=False, index=True),
    sql.Column("submission", sql.JSON, nullable=False),
    sql.Column("created_at", sql.Float, nullable=False),
    sql.Column("started_at", sql.Float),
    sql.Column("completed_at", sql.Float),
    sql.Column("expires_at", sql.Float),
    sql.Column("put_back", sql.Boolean, nullable=False, default=False),  # it comes first
    sql.Column("attempt", sql.Integer, nullable=False, default=0),
    sql.Column("deaths", sql.Integer, nullable=False, default=0),  # of the process since a clip was finished
    sql.Column("clips_done", sql.Integer, nullable=False, default=0),
    sql.Column("frames_done", sql.Integer, nullable=False, default=0),
    sql.Column("playable", sql.Integer, nullable=False, default=0),  # bytes that are whole fragments
    sql.Column("bytes", sql.Integer, nullable=False, default=0),  # of all its files
    sql.Column("notices", sql.JSON, nullable=False),
    sql.Column("failure", sql.JSON),
    sql.Column("timings", sql.JSON),
    sql.Column("variants", sql.JSON),  # the finished files
    sqlite_autoincrement=True,
)
EVENTS = sql.Table(
    "events",
    TABLES,
    sql.Column("job", sql.String(64), primary_key=True),
    sql.Column("number", sql.Integer, primary_key=True, autoincrement=False),
    sql.Column("kind", sql.String(16), nullable=False),
    sql.Column("data", sql.JSON, nullable=False),
)
OWNERS = sql.Table(  # when each was served, counted
    "owners",
    TABLES,
    sql.Column("owner", sql.String(255), primary_key=True),
    sql.Column("served", sql.Integer, nullable=False),
)
KEYS = sql.Table(
    "keys",
    TABLES,
    sql.Column("owner", sql.String(255), primary_key=True),
    sql.Column("key", sql.String(255), primary_key=True),
    sql.Column("digest", sql.String(64), nullable=False),
    sql.Column("job", sql.String(64), nullable=False, index=True),
    sql.Column("created_at", sql.Float, nullable=False),
)


class Database:
    """The tables at a URL; they are made where they are missing. One thread writes at a time."""

    def __init__(self, url: str):
        self._lock = threading.RLock()
        self._engine = sql.create_engine(url)
        if self._engine.dialect.name == "sqlite":
            event.listen(self._engine, "connect", _careful)
        TABLES.create_all(self._engine)

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction; what it wrote is on the disk when the block ends, and gone if it fails."""
        with self._lock, self._engine.begin() as connection:
            yield connection

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A view of the tables."""
        with self._engine.connect() as connection:
            yield connection

    def close(self) -> None:
        self._engine.dispose()


def url_of(folder: Path) -> str:
    """Of the file of SQLite in a folder."""
    return f"sqlite:///{folder.absolute() / 'jobs.sqlite'}"


def _careful(connection: Any, _record: Any) -> None:
    """Readers do not wait for the writer, and a commit is on the disk."""
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=30000"):
        connection.execute(f"PRAGMA {pragma}")


def submission_row(submission: Submission) -> dict[str, Any]:
    """A submission as JSON; its folder is known by its id."""
    values = {field.name: getattr(submission, field.name) for field in dataclasses.fields(submission)}
    del values["folder"]
    return values


def record_of(row: RowMapping, folder: Path) -> Record:
    """A row of JOBS.

    Args:
      folder: of the job.
    """
    values = dict(row["submission"])
    values["notices"] = tuple(values["notices"])
    return Record(
        submission=Submission(folder=folder, **values),
        status=row["status"],
        created_at=row["created_at"],
        started_at=row["started_at"],
        completed_at=row["completed_at"],
        expires_at=row["expires_at"],
        attempt=row["attempt"],
        clips_done=row["clips_done"],
        frames_done=row["frames_done"],
        notices=tuple(row["notices"]),
        failure=JobFailure(**row["failure"]) if row["failure"] else None,
        timings=row["timings"],
    )


def add_event(connection: Connection, job: str, kind: str, data: Mapping[str, Any]) -> JobEvent:
    """Keep an event with the next number; part of a writing transaction."""
    last = connection.scalar(sql.select(sql.func.max(EVENTS.c.number)).where(EVENTS.c.job == job)) or 0
    connection.execute(EVENTS.insert().values(job=job, number=last + 1, kind=kind, data=dict(data)))
    return JobEvent(last + 1, kind, dict(data))
