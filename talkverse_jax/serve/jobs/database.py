"""The jobs' tables: in a file of SQLite, or in a database of Postgres that several processes share.

What a transaction wrote is on the disk when it ends. One is at a time in which anything is written, so that numbers and
events stand in their order.
"""

import dataclasses
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import sqlalchemy as sql
from sqlalchemy import event
from sqlalchemy.engine import Connection, RowMapping

from talkverse_jax.serve.jobs import postgres
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
    sql.Column("playable", sql.BigInteger, nullable=False, default=0),  # bytes that are whole fragments
    sql.Column("bytes", sql.BigInteger, nullable=False, default=0),  # of all its files
    # What SQL is asked of a submission: Postgres takes nothing out of JSON in which a text has a \u0000.
    sql.Column("seconds", sql.Float),  # of the video
    sql.Column("clips", sql.Integer),  # of the video
    sql.Column("shape", sql.String(64)),  # see `Submission`
    sql.Column("notices", sql.JSON, nullable=False),
    sql.Column("failure", sql.JSON),
    sql.Column("timings", sql.JSON),
    sql.Column("variants", sql.JSON),  # the finished files
    sql.Column("worker", sql.String(64)),  # that has it, or had it last; its name in MEMBERS
    sql.Column("shelf", sql.String(96)),  # where what is made of it lies, see `depot`
    sql.Column("keep_hours", sql.Float),  # after its end
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

MEMBERS = sql.Table(  # the processes that share a database; see `crew`
    "members",
    TABLES,
    sql.Column("name", sql.String(64), primary_key=True),
    sql.Column("works", sql.Boolean, nullable=False),  # a worker, not a front
    sql.Column("host", sql.String(255), nullable=False),
    sql.Column("seen_at", sql.Float, nullable=False),
    sql.Column("state", sql.String(16), nullable=False),
    sql.Column("device", sql.Integer, nullable=False),
    sql.Column("weights", sql.String(64), nullable=False),  # a digest
    sql.Column("doing", sql.JSON, nullable=False),  # how far the jobs are that it has in work
)


class Database:
    """The tables at a URL; they are made where they are missing.

    Args:
      url: of Postgres, or see `url_of`.

    Raises:
      UserError: of Postgres: it cannot be used.
    """

    def __init__(self, url: str):
        self._lock = threading.RLock()
        self.url = url
        self.is_shared = not url.startswith("sqlite:")
        if self.is_shared:
            self._engine = postgres.open_engine(url)
        else:
            self._engine = sql.create_engine(url)
            event.listen(self._engine, "connect", _careful)
        with self.writing() as connection:
            TABLES.create_all(connection)
            _add_columns(connection)

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction; what it wrote is on the disk when the block ends, and gone if it fails.

        Raises:
          Unreachable: of Postgres; what was to be written may be written all the same.
        """
        with self._lock, self._telling(), self._engine.begin() as connection:
            if self.is_shared:
                postgres.lock(connection)
            yield connection

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A view of the tables.

        Raises:
          Unreachable: of Postgres.
        """
        with self._telling(), self._engine.connect() as connection:
            yield connection

    @contextmanager
    def touching(self) -> Iterator[Connection]:
        """As `writing`, for what stands in no order with anything: it waits for nobody."""
        with self._telling(), self._engine.begin() as connection:
            yield connection

    def now(self, connection: Connection) -> float:
        """The time, in Unix seconds; of several machines, by the database's clock."""
        return postgres.now(connection) if self.is_shared else time.time()

    def _telling(self) -> AbstractContextManager[None]:
        return postgres.telling() if self.is_shared else nullcontext()

    def close(self) -> None:
        self._engine.dispose()


def _add_columns(connection: Connection) -> None:
    """Those that tables of an older version lack; they may be empty."""
    known = sql.inspect(connection)
    for table in TABLES.sorted_tables:
        there = {each["name"] for each in known.get_columns(table.name)}
        for column in table.columns:
            if column.name not in there:
                kind = column.type.compile(connection.dialect)
                connection.execute(sql.DDL(f"ALTER TABLE {table.name} ADD COLUMN {column.name} {kind}"))


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
