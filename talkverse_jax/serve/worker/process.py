"""The process that makes videos, as the server's front has it: lines of JSON go in and come out. Imports no JAX."""

import contextlib
import json
import pickle
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from talkverse_jax.core.own_process import command, environ
from talkverse_jax.pipeline.machine import Machine, Weights
from talkverse_jax.sharding.process_options import ProcessOptions


@dataclass(frozen=True)
class WorkerSetup:
    """What a worker needs to begin.

    Attributes:
      settings: of requests that leave all out: devices are shared by them.
      modules: to be imported first, of families that are no part of the package.
      pack: jobs of one shape that are made together.
      processes: how this one meets others that are one worker with it; None: it is alone.
      data_dir, scratch: where the others find what a job is made of, and a folder for it.
      niceness: beside the front's.
    """

    family: str
    weights: Weights
    machine: Machine
    settings: Any
    modules: tuple[str, ...] = ()
    pack: int = 1
    processes: ProcessOptions | None = None
    data_dir: str = ""
    scratch: str = ""
    niceness: int = 10


class WorkerProcess:
    """A worker that runs. It ends when the front does.

    Args:
      hear: is called with each message, in a thread of its own.
      died: is called behind the last message, with the exit status.
    """

    def __init__(self, setup: WorkerSetup, hear: Callable[[dict[str, Any]], None], died: Callable[[int], None]):
        self._process = subprocess.Popen(
            command("talkverse_jax.serve.worker.main"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environ(),
            # Ctrl-C is the front's, which ends the worker when its clip is done. In a session of its own its niceness
            # would say nothing beside the front's: Linux shares processors among sessions first (sched_autogroup).
            process_group=0,
        )
        self._lock = threading.Lock()
        self._write(pickle.dumps(setup))
        threading.Thread(target=self._listen, args=(hear, died), name="worker", daemon=True).start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def send(self, message: Mapping[str, Any]) -> None:
        """Tell it something; a worker that is gone is told nothing."""
        self._write(json.dumps(message).encode() + b"\n")

    def _write(self, data: bytes) -> None:
        assert self._process.stdin
        with self._lock, contextlib.suppress(OSError, ValueError):
            self._process.stdin.write(data)
            self._process.stdin.flush()

    def _listen(self, hear: Callable[[dict[str, Any]], None], died: Callable[[int], None]) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            with contextlib.suppress(ValueError):  # half a line, of a worker that was killed
                hear(json.loads(line))
        died(self._process.wait())

    def kill(self) -> None:
        """End it, whatever it does; what it has finished is on the disk."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGKILL)
