"""A process of a worker on a host of the cluster, held by an actor of Ray there. Imports no Ray."""

import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import IO

_PATIENCE = 10.0  # seconds in which a process that is asked to end does
_AT_ONCE = 200  # lines


class HostedProcess:
    """Runs one command on its host, and hands out what it says.

    One thread calls all its methods: when that one ends, so does the process, whatever ended the actor.
    """

    def start(self, arguments: Sequence[str], folder: str, environ: Mapping[str, str | None]) -> str:
        """Begin; what goes wrong with that, or "".

        Args:
          arguments: what stands behind `python -m`.
          folder: the current one.
          environ: variables that are set, or taken away (None); otherwise they are those of the host's Ray.
        """
        mine = {key: value for key, value in (os.environ | environ).items() if value is not None}
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._ended = False
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "talkverse_jax.run.cluster.begin", str(os.getpid()), *arguments],
                cwd=folder,
                env=mine,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                start_new_session=True,
            )
        except OSError as error:
            return f"{error.filename}: {error.strerror}; all hosts must see the current folder under the same name"
        threading.Thread(target=self._read, args=(self._process.stdout,), name="lines", daemon=True).start()
        return ""

    def _read(self, output: IO[str]) -> None:
        for line in output:
            self._lines.put(line.rstrip("\n"))
        self._lines.put(None)

    def listen(self, seconds: float) -> tuple[list[str], int | None]:
        """What the process has said since the last time, and its exit code once it has ended.

        Args:
          seconds: to wait at most where there is nothing.
        """
        found: list[str] = []
        with suppress(queue.Empty):
            while len(found) < _AT_ONCE and not self._ended:
                line = self._lines.get(timeout=0.05 if found else seconds)
                self._ended = line is None
                found += [] if line is None else [line]
        return found, self._process.wait() if self._ended else None

    def stop(self) -> None:
        """End the process: as Ctrl-C does, and where that does not help, at once."""
        end = time.monotonic() + _PATIENCE
        self._process.send_signal(signal.SIGINT)
        while self._process.poll() is None and time.monotonic() < end:
            time.sleep(0.05)
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
