"""A Postgres of the tests' own, where this machine has one."""

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

USER, PASSWORD, NAME = "talk", "secret-of-the-test", "jobs"
_DEBIAN = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)


class PostgresProcess:
    """A server that runs.

    Attributes:
      url: of a database in it.
    """

    def __init__(self, programs: Path, folder: Path):
        self._programs, self._folder = programs, folder
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.url = f"postgresql://{USER}:{PASSWORD}@127.0.0.1:{self.port}/{NAME}"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        places = f"-h 127.0.0.1 -p {self.port} -k {self._folder}"
        self._run("pg_ctl", "-D", self._data, "-o", f"{places} -F", "-l", self._folder / "log", "-w", "start")

    def stop(self) -> None:
        """End it at once, as a machine that is switched off."""
        self._run("pg_ctl", "-D", self._data, "-m", "immediate", "stop")

    def make(self) -> None:
        """Make its files and a database."""
        file = self._folder / "password"
        file.write_text(PASSWORD)
        file.chmod(0o644)
        self._run("initdb", "-D", self._data, "-U", USER, "-A", "scram-sha-256", f"--pwfile={file}", "-N")
        self.start()
        self.ask(f"CREATE DATABASE {NAME}", "postgres")

    def ask(self, statement: str, name: str = NAME) -> list[tuple]:
        """What a statement gives."""
        import psycopg

        url = self.url.rpartition("/")[0]
        with psycopg.connect(f"{url}/{name}", autocommit=True) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []

    @property
    def _data(self) -> Path:
        return self._folder / "data"

    def _run(self, program: str, *arguments: object) -> None:
        command = [str(self._programs / program), *map(str, arguments)]
        if os.geteuid() == 0:  # which it refuses to run as
            command = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", *command]
        subprocess.run(command, check=True, cwd=self._folder, stdout=subprocess.DEVNULL, timeout=120)


def _programs() -> Path | None:
    found = shutil.which("initdb")
    places = [*([Path(os.path.realpath(found)).parent] if found else []), *_DEBIAN]
    return next((each for each in places if (each / "pg_ctl").exists()), None)


@contextmanager
def postgres() -> Iterator[PostgresProcess]:
    """A server, while the block lasts; the test is skipped where there is none."""
    programs = _programs()
    if programs is None:
        pytest.skip("needs PostgreSQL (Debian: postgresql)")
    pytest.importorskip("psycopg")
    if os.geteuid() == 0 and not shutil.which("setpriv"):
        pytest.skip("PostgreSQL does not run as root; needs setpriv (Debian: util-linux)")
    folder = Path(tempfile.mkdtemp(prefix="talkverse_jax_postgres_", dir="/tmp"))
    try:
        if os.geteuid() == 0:
            shutil.chown(folder, "nobody", "nogroup")
        made = PostgresProcess(programs, folder)
        made.make()
        try:
            yield made
        finally:
            made.stop()
    finally:
        time.sleep(0.1)
        shutil.rmtree(folder, ignore_errors=True)
