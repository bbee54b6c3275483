"""Servers as processes of their own, to be asked, stopped and killed."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import httpx

ROOT = Path(__file__).parents[2]
_START = 120  # seconds


class ServerProcess:
    """`talkverse_jax serve` on a folder; a context manager that leaves nothing running.

    Args:
      program: what Python runs.

    Attributes:
      url: where it listens.
    """

    def __init__(self, folder: Path, weights: Path, *flags: str, program: Sequence[str] = ("-m", "talkverse_jax")):
        self.log = folder.with_name(f"{folder.name}.log")
        command = [sys.executable, *program, "serve", "--weights", str(weights), "--port", "0"]
        command += ["--data_dir", str(folder), *flags]
        environ = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
        with open(self.log, "ab") as log:
            self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, env=environ, text=True)
        assert self._process.stdout
        self.url = self.line().removeprefix("talkverse_jax: listening on ")
        self.client = httpx.Client(base_url=self.url, timeout=30)

    def line(self) -> str:
        """The next line that it prints; "" at the end."""
        assert self._process.stdout
        return self._process.stdout.readline().strip()

    def __enter__(self) -> "ServerProcess":
        return self

    def __exit__(self, *_) -> None:
        self.kill()

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def wait(self, seconds: float = 60) -> int:
        """Its exit code."""
        return self._process.wait(seconds)

    def kill(self) -> None:
        """`kill -9`, of the server alone: its worker has to see that it is gone."""
        worker = self.worker()
        self._process.kill()
        self._process.wait()
        self.client.close()
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
