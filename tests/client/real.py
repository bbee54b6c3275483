"""A real server in a process of its own, with the tiny model: seconds for a video of two clips on a CPU."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

from tests.processes import ROOT, free_address

_START = 180  # seconds that a start may take: models are loaded and compiled


class RealServer:
    """The command `serve`, which can be ended and started again on its folder and its port.

    Attributes:
      address: http://HOST:PORT.
    """

    def __init__(self, weights: Path, data: Path, *flags: str):
        _, _, port = free_address().partition(":")
        settings = [
            "--config",
            "demo",
            "--sample_steps",
            "2",
            "--infer_frames",
            "40",
            "--port",
            port,
            "--data_dir",
            str(data),
        ]
        self._command = [sys.executable, "-m", "talkverse_jax", "serve", "--weights", str(weights), *settings, *flags]
        self.address = f"http://127.0.0.1:{port}"
        self._log = data.with_suffix(".log")

    def start(self) -> None:
        """Start it, and wait until it is ready."""
        environ = os.environ | {"PYTHONPATH": str(ROOT), "XLA_FLAGS": ""}
        self._ready = threading.Event()
        with self._log.open("a") as log:
            pipes = dict(stdout=subprocess.PIPE, stderr=log, text=True)
            self._process = subprocess.Popen(self._command, env=environ, cwd=self._log.parent, **pipes)
        threading.Thread(target=self._read, args=(self._process,), daemon=True).start()
        assert self._ready.wait(_START) and self._process.poll() is None, self._log.read_text()[-4000:]

    def stop(self) -> None:
        """Ask it to end, and wait until it has."""
        self._process.send_signal(signal.SIGTERM)
        assert self._process.wait(timeout=90) == 0, self._log.read_text()[-4000:]

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def _read(self, process: subprocess.Popen) -> None:
        """What it prints; where it ends, nobody is to wait any longer."""
        for line in process.stdout or ():
            if line.strip() == "talkverse_jax: ready":
                self._ready.set()
        self._ready.set()
