"""What the worker's process runs: models loaded once, then what the front asks for, one thing after another.

The front says `{"do": "make", "requests", "jobs"}`, where a request is `{"request", "job", "folder", "files",
"settings", "clip", "keep_fragments"}`: have this clip on the disk, or, where it is null, the finished video and what
belongs to it; and `{"do": "stop", "job"}`, which is heard at once. `{"do": "live"}` makes a live video (see `live`);
its sound comes as `{"do": "sound", "session", "pcm"}`. Each request has a number and one answer with it; what is told
between has none. The pipeline runs in one thread, the one that loaded the models: on a CPU the threads that XLA takes
decide the last digits.
"""

import base64
import importlib
import json
import os
import pickle
import queue
import threading
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from talkverse_jax.core.errors import UserError
from talkverse_jax.core.own_process import pipes
from talkverse_jax.serve.worker.process import WorkerSetup

_FOLLOWING = "follows"  # the shelf of a process that makes nothing


def main() -> None:
    """Be a worker until the front is gone."""
    asked, said = pipes()
    setup: WorkerSetup = pickle.load(asked)
    os.nice(setup.niceness)
    requests: queue.Queue[dict[str, Any]] = queue.Queue()
    stopped: set[str] = set()
    sounds: dict[str, queue.Queue[bytes | None]] = {}
    threading.Thread(target=_listen, args=(asked, requests, stopped, sounds), daemon=True).start()
    worker = _Worker(said, stopped, sounds)
    try:
        with _meeting(setup):
            worker.load(setup)
            worker.run(requests)
    except UserError as error:
        worker.say_unusable(error)


def _meeting(setup: WorkerSetup) -> AbstractContextManager[None]:
    """The others are there in the block, if this process is one of several."""
    if setup.processes is None:
        return nullcontext()
    from talkverse_jax.sharding import distributed

    return distributed.session(**setup.processes.session)


def _listen(
    asked: Any,
    requests: queue.Queue[dict[str, Any]],
    stopped: set[str],
    sounds: dict[str, queue.Queue[bytes | None]],
) -> None:
    for line in asked:
        message = json.loads(line)
        if message["do"] == "sound":
            if (sound := sounds.get(message["session"])) is not None:
                sound.put(None if message["pcm"] is None else base64.b64decode(message["pcm"]))
            continue
        if message["do"] == "stop":
            stopped.add(message["job"])
        if message["do"] == "live":
            sounds[message["session"]] = queue.Queue()
        requests.put(message)
    os._exit(0)  # the front is gone; what is finished is on the disk


class _Worker:
    def __init__(self, said: Any, stopped: set[str], sounds: dict[str, queue.Queue[bytes | None]]):
        self._said, self._stopped, self._sounds = said, stopped, sounds
        self._pipeline: Any = None

    def load(self, setup: WorkerSetup) -> None:
        """Load the models. A process that follows another does so from then on.

        Raises:
          UserError: they cannot be used.
        """
        from talkverse_jax.core import compile_cache
        from talkverse_jax.pipeline import registry
        from talkverse_jax.sharding.distributed import is_main, process_count

        for module in setup.modules:
            importlib.import_module(module)
        compile_cache.enable()
        load = registry.find(setup.family).load_pipeline
        how = {"settings": setup.settings, "pack": setup.pack, "keep_encoders": True}
        try:
            if setup.pack > 1 and process_count() > 1:
                raise UserError(f"{setup.pack}: several processes make one video at a time", field="pack_size")
            self._pipeline = load(setup.weights, setup.machine, **how)
            if self._pipeline.pack != setup.pack:
                raise UserError(f"{setup.pack}: this model makes one video at a time; leave it out", field="pack_size")
        except UserError as error:
            if process_count() > 1:  # it ends them all, and nothing is said behind that
                self.say_unusable(error)
            raise
        if process_count() > 1:
            from talkverse_jax.serve.worker.together import SlicePipeline

            if not is_main():
                self._follow(setup)
            self._pipeline = SlicePipeline(self._pipeline)

    def _follow(self, setup: WorkerSetup) -> NoReturn:
        from talkverse_jax.serve.jobs.depot import Depot
        from talkverse_jax.serve.worker.together import follow

        depot = Depot(setup.data_dir, Path(setup.scratch))
        before: list[str] = []

        def inputs(job: str) -> Path:
            while before:
                depot.done(before.pop(), _FOLLOWING)
            before.append(job)
            return depot.begin(job, None, _FOLLOWING)

        self._say({"say": "follows"})
        follow(self._pipeline, inputs)

    def say_unusable(self, error: UserError) -> None:
        self._say({"say": "unusable", "message": str(error)})

    def run(self, requests: queue.Queue[dict[str, Any]]) -> None:
        import jax

        from talkverse_jax.serve.worker.live import make_live
        from talkverse_jax.serve.worker.pack import Pack

        pack = Pack(self._pipeline, self._say, self._stopped)
        self._say({"say": "ready", "device": jax.devices()[0].id})
        while True:
            message = requests.get()
            if message["do"] == "stop":
                pack.leave(message["job"])
                self._stopped.discard(message["job"])
            elif message["do"] == "live":
                session = message["session"]
                sound, stopping = self._sounds[session], partial(self._stopped.__contains__, session)
                make_live(self._pipeline, message, sound, stopping, self._say)
                del self._sounds[session]
            else:
                pack.make(message["requests"], message["jobs"])

    def _say(self, message: dict[str, Any]) -> None:
        self._said.write(json.dumps(message).encode() + b"\n")
        self._said.flush()
