"""What the worker's process runs: models loaded once, then what the front asks for, one thing after another.

The front asks for `{"do": "clip", "job", "folder", "files", "settings", "clip", "clips"}`, `finish` likewise, and says
`{"do": "stop", "job"}`, which is heard at once. Each request has a number and one answer with it; what is told between
has none. The pipeline runs in one thread, the one that loaded the models: on a CPU the threads that XLA takes decide
the last digits.
"""

import importlib
import json
import os
import pickle
import queue
import sys
import threading
from pathlib import Path
from typing import Any

from talkverse_jax.core.errors import UserError
from talkverse_jax.serve.worker.process import WorkerSetup

_LOST = "the files of this video are gone; send them again"


def main() -> None:
    """Be a worker until the front is gone."""
    asked, said = sys.stdin.buffer, os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # whatever a library prints
    setup: WorkerSetup = pickle.load(asked)
    os.nice(setup.niceness)
    requests: queue.Queue[dict[str, Any]] = queue.Queue()
    stopped: set[str] = set()
    threading.Thread(target=_listen, args=(asked, requests, stopped), daemon=True).start()
    worker = _Worker(said, stopped)
    if worker.load(setup):
        worker.run(requests)


def _listen(asked: Any, requests: queue.Queue[dict[str, Any]], stopped: set[str]) -> None:
    for line in asked:
        message = json.loads(line)
        if message["do"] == "stop":
            stopped.add(message["job"])
        requests.put(message)
    os._exit(0)  # the front is gone; what is finished is on the disk


class _Worker:
    def __init__(self, said: Any, stopped: set[str]):
        self._said, self._stopped = said, stopped
        self._pipeline: Any = None
        self._making: Any = None

    def load(self, setup: WorkerSetup) -> bool:
        """Whether the models can be used; if not, the front is told."""
        from talkverse_jax.core import compile_cache
        from talkverse_jax.pipeline import registry

        for module in setup.modules:
            importlib.import_module(module)
        compile_cache.enable()
        load = registry.find(setup.family).load_pipeline
        try:
            self._pipeline = load(setup.weights, setup.machine, settings=setup.settings, keep_encoders=True)
        except UserError as error:
            self._say({"say": "unusable", "message": str(error)})
            return False
        return True

    def run(self, requests: queue.Queue[dict[str, Any]]) -> None:
        import jax

        self._say({"say": "ready", "device": jax.devices()[0].id})
        while True:
            message = requests.get()
            if message["do"] == "stop":
                self._leave(message["job"])
                self._stopped.discard(message["job"])
            else:
                self._say({**self._answer(message), "request": message["request"]})

    def _answer(self, message: dict[str, Any]) -> dict[str, Any]:
        from talkverse_jax.pipeline.events import Cancelled
        from talkverse_jax.serve.worker.making import failure_of, missing_input, paths_of

        job, folder = message["job"], Path(message["folder"])
        if job in self._stopped:
            return {"say": "stopped"}
        try:
            making = self._making_of(message)
            return making.clip(message["clip"], message["clips"]) if message["do"] == "clip" else making.finish()
        except Cancelled:
            self._leave(job)
            return {"say": "stopped"}
        except Exception as error:
            self._leave(job)
            paths = paths_of(self._pipeline.family, message["files"])
            if (name := missing_input(folder, paths)) is not None:
                return {"say": "failed", "code": "input_lost", "message": _LOST, "param": name, "trace": ""}
            return failure_of(error, folder)

    def _making_of(self, message: dict[str, Any]) -> Any:
        from talkverse_jax.serve.worker.making import Making

        job = message["job"]
        if self._making is None or self._making.job != job:
            if self._making is not None:
                self._leave(self._making.job)
            folder, stopped = Path(message["folder"]), self._stopped
            files, settings = message["files"], message["settings"]
            self._making = Making(self._pipeline, job, folder, files, settings, self._say, lambda: job in stopped)
        return self._making

    def _leave(self, job: str) -> None:
        if self._making is not None and self._making.job == job:
            self._making.close()
            self._making = None

    def _say(self, message: dict[str, Any]) -> None:
        self._said.write(json.dumps(message).encode() + b"\n")
        self._said.flush()
