"""A database of Postgres, which fronts and workers on any machines share. Its password is never shown."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

import sqlalchemy as sql
from sqlalchemy import event
from sqlalchemy.engine import URL, Connection, Engine, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from talkverse_jax.core.errors import UserError
from talkverse_jax.serve.jobs.job import Refused

LOG = logging.getLogger("talkverse_jax.serve")

_SCHEMES = ("postgresql", "postgres", "postgresql+psycopg")
_SUCH = "give postgresql://USER:PASSWORD@HOST/NAME"
_LOST = (OperationalError, InterfaceError, PoolTimeout)
_KEY = 0x7461_6C6B  # of the lock; any number that nobody else takes
_PATIENCE = 15  # seconds for the network, and for the lock
_RETRY_AFTER = 5  # seconds
_AGAIN = 0.2  # seconds
_CONNECT = {
    "connect_timeout": _PATIENCE,
    "keepalives_idle": 5,
    "keepalives_interval": 5,
    "keepalives_count": 2,
    "tcp_user_timeout": 1000 * _PATIENCE,
}
# Of a process that is gone without a word the server lets go as well: it may hold the lock.
_SESSION = (
    f"SET idle_in_transaction_session_timeout = '{_PATIENCE}s'",
    f"SET lock_timeout = '{_PATIENCE}s'",
)


class Unreachable(Refused):
    """The database does not answer now."""

    def __init__(self) -> None:
        super().__init__(503, "not_ready", "the server's database does not answer; try again later", _RETRY_AFTER)


def check_url(text: str) -> URL:
    """The URL of a database, with the driver that is ours.

    Raises:
      UserError: it is none of Postgres, or a package is missing.
    """
    if text.partition("://")[0] not in _SCHEMES:  # it is not shown: who knows what is in it
        raise UserError(f"is no address of a database of Postgres; {_SUCH}", field="database")
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        raise UserError(f"cannot be understood as an address; {_SUCH}", field="database") from None
    if find_spec("psycopg") is None:
        raise UserError("needs psycopg; run: pip install 'talkverse_jax[serve,postgres]'", field="database")
    return url.set(drivername="postgresql+psycopg")


def shown(text: str) -> str:
    """An address without what is secret in it."""
    url = check_url(text).set(query={})
    return url.set(drivername="postgresql").render_as_string(hide_password=True)


def open_engine(text: str) -> Engine:
    """Connections to a database, which is asked once.

    Raises:
      UserError: it cannot be reached, or lets nobody in.
    """
    engine = sql.create_engine(
        check_url(text), pool_size=5, max_overflow=11, pool_timeout=_PATIENCE, pool_pre_ping=True, connect_args=_CONNECT
    )
    event.listen(engine, "connect", _begin)
    try:
        engine.connect().close()
    except DBAPIError as error:
        engine.dispose()
        reason = _one_line(error.orig)
        told = f"{shown(text)}: cannot be used ({reason}); check address, user and password, and that it runs"
        raise UserError(told, field="database") from None
    return engine


def _begin(connection, _record) -> None:
    with connection.cursor() as cursor:
        for line in _SESSION:
            cursor.execute(line)
    connection.commit()


class _Silence:
    """Says something, and then nothing for a while."""

    def __init__(self, seconds: float):
        self._seconds, self._until = seconds, 0.0

    def warn(self, text: str, *values: str) -> None:
        if (now := time.monotonic()) >= self._until:
            self._until = now + self._seconds
            LOG.warning(text, *values)


_SILENCE = _Silence(10.0)


@contextmanager
def telling() -> Iterator[None]:
    """Of a connection that is lost, or not to be had, or waits too long, the block says `Unreachable`."""
    try:
        yield
    except (DBAPIError, PoolTimeout) as error:
        if not isinstance(error, _LOST) and not getattr(error, "connection_invalidated", False):
            raise
        _SILENCE.warn("the database does not answer (%s)", _one_line(getattr(error, "orig", None) or error))
        raise Unreachable from None


def _one_line(error: BaseException | None) -> str:
    return " ".join(str(error).split())[:300]


def lock(connection: Connection) -> None:
    """Wait until no other transaction that locks is open, anywhere; until this one ends, none is."""
    connection.execute(sql.select(sql.func.pg_advisory_xact_lock(_KEY)))


@contextmanager
def alone(text: str) -> Iterator[None]:
    """Of all processes only one is in the block at a time. Who waits holds no transaction open: there are changes of
    tables that would wait for it in turn."""
    engine = open_engine(text)
    try:
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            while not connection.scalar(sql.select(sql.func.pg_try_advisory_lock(_KEY + 1))):
                time.sleep(_AGAIN)
            yield
    finally:
        engine.dispose()  # with the connection its lock ends


def now(connection: Connection) -> float:
    """The time of the database's clock, in Unix seconds."""
    return float(connection.scalar(sql.select(sql.extract("epoch", sql.func.clock_timestamp()))) or 0)
