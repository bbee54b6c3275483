"""What the worker's process runs: models loaded once, then what the front asks for, one thing after another.

The front says `{"do": "make", "requests", "jobs"}`, where a request is `{"request", "job", "folder", "files",
"settings", "clip", "keep_fragments"}`: have this clip on the disk, or, where it is null, the finished video and what
belongs to it; and `{"do": "stop", "job"}`, which is heard at once. Each request has a number and one answer with it;
what is told between has none. The pipeline runs in one thread, the one that loaded the models: on a CPU the threads
that XLA takes decide the last digits.
"""

import importlib
import json
import os
import pickle
import queue
import threading
from typing import Any

from talkverse_jax.core.errors import UserError
from talkverse_jax.core.own_process import pipes
from talkverse_jax.serve.worker.process import WorkerSetup


def main() -> None:
    """Be a worker until the front is gone."""
    asked, said = pipes()
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

    def load(self, setup: WorkerSetup) -> bool:
        """Whether the models can be used; if not, the front is told."""
        from talkverse_jax.core import compile_cache
        from talkverse_jax.pipeline import registry

        for module in setup.modules:
            importlib.import_module(module)
        compile_cache.enable()
        load = registry.find(setup.family).load_pipeline
        how = {"settings": setup.settings, "pack": setup.pack, "keep_encoders": True}
        try:
            self._pipeline = load(setup.weights, setup.machine, **how)
            if self._pipeline.pack != setup.pack:
                raise UserError(f"{setup.pack}: this model makes one video at a time; leave it out", field="pack_size")
        except UserError as error:
            self._say({"say": "unusable", "message": str(error)})
            return False
        return True

    def run(self, requests: queue.Queue[dict[str, Any]]) -> None:
        import jax

        from talkverse_jax.serve.worker.pack import Pack

        pack = Pack(self._pipeline, self._say, self._stopped)
        self._say({"say": "ready", "device": jax.devices()[0].id})
        while True:
            message = requests.get()
            if message["do"] == "stop":
                pack.leave(message["job"])
                self._stopped.discard(message["job"])
            else:
                pack.make(message["requests"], message["jobs"])

    def _say(self, message: dict[str, Any]) -> None:
        self._said.write(json.dumps(message).encode() + b"\n")
        self._said.flush()
