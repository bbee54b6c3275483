"""Servers as processes of their own, to be asked, stopped and killed."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import httpx

ROOT = Path(__file__).parents[2]
_START = 120  # seconds


class Program:
    """A command of ours, with a worker's process below it; a context manager that leaves nothing running.

    Args:
      log: the file of its standard error.
      program: what Python runs.
      environ: besides that of the tests.
    """

    def __init__(
        self,
        log: Path,
        *command: str,
        program: Sequence[str] = ("-m", "talkverse_jax"),
        environ: Mapping[str, str] | None = None,
    ):
        self.log = log
        own = {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
        with open(log, "ab") as file:
            self._process = subprocess.Popen(
                [sys.executable, *program, *command],
                stdout=subprocess.PIPE,
                stderr=file,
                env=os.environ | own | dict(environ or {}),
                text=True,
            )

    def line(self) -> str:
        """The next line that it prints; "" at the end."""
        assert self._process.stdout
        return self._process.stdout.readline().strip()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_) -> None:
        self.kill()

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def wait(self, seconds: float = 60) -> int:
        """Its exit code."""
        return self._process.wait(seconds)

    def kill(self) -> None:
        """`kill -9`, of this process alone: its worker has to see that it is gone."""
        worker = self.worker()
        self._process.kill()
        self._process.wait()
        end = time.monotonic() + 10
        while worker and os.path.exists(f"/proc/{worker}") and time.monotonic() < end:
            time.sleep(0.01)
        assert not worker or not os.path.exists(f"/proc/{worker}"), "the worker outlived its server"

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def worker(self) -> int | None:
        """The number of the worker's process."""
        for task in Path(f"/proc/{self._process.pid}/task").glob("*/children"):
            try:
                for child in task.read_text().split():
                    if b"serve.worker.main" in Path(f"/proc/{child}/cmdline").read_bytes():
                        return int(child)
            except FileNotFoundError:
                continue
        return None

    def kill_worker(self) -> bool:
        """`kill -9` of the worker; whether there was one."""
        worker = self.worker()
        if worker is not None:
            os.kill(worker, signal.SIGKILL)
        return worker is not None


class ServerProcess(Program):
    """`talkverse_jax serve`.

    Args:
      data: its folder, or the address of a bucket.
      log: the file of its standard error; by default beside the folder.

    Attributes:
      url: where it listens.
    """

    def __init__(self, data: Path | str, weights: Path, *flags: str, log: Path | None = None, **how: Any):
        log = log or Path(data).with_name(f"{Path(data).name}.log")
        given = ("--weights", str(weights), "--port", "0", "--data_dir", str(data), *flags)
        super().__init__(log, "serve", *given, **how)
        self.url = self.line().removeprefix("talkverse_jax: listening on ")
        self.client = httpx.Client(base_url=self.url, timeout=30)

    def kill(self) -> None:
        super().kill()
        self.client.close()
