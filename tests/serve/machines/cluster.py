"""Fronts and workers of a test, and what is asked of them."""

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tests.serve.machines.bucket import Bucket
from tests.serve.machines.postgres import PostgresProcess
from tests.serve.processes import ROOT, Program, ServerProcess

CLIPS = 3
_FLAGS = ("--size_bucket", "tiny-128", "--infer_frames", "8", "--sample_steps", "12", "--sample_guide_scale", "1")
_FLAGS += ("--dtype", "float32")
_FACE, _SOUND = (ROOT / "assets" / name for name in ("face.png", "speech.flac"))
WITHIN = 600  # seconds


class Cluster:
    """What the processes share, and how they are started; each has a scratch folder of its own."""

    def __init__(self, folder: Path, weights: Path, database: PostgresProcess, store: Bucket):
        self.folder, self.weights, self.database, self.store = folder, weights, database, store
        self._started = 0

    flags = _FLAGS

    def front(self, *flags: str) -> ServerProcess:
        log, environ = self._own({})
        given = ("--database", self.database.url, *_FLAGS, *flags)
        return ServerProcess(self.store.address, self.weights, *given, log=log, environ=environ)

    def worker(self, *flags: str, environ: Mapping[str, str] | None = None) -> Program:
        log, environ = self._own(environ or {})
        given = ("--weights", str(self.weights), "--database", self.database.url)
        given += ("--data_dir", self.store.address, *_FLAGS, *flags)
        return Program(log, "serve-worker", *given, environ=environ)

    def _own(self, environ: Mapping[str, str]) -> tuple[Path, dict[str, str]]:
        self._started += 1
        scratch = self.folder / f"scratch{self._started}"
        scratch.mkdir()
        return self.folder / f"log{self._started}", {**self.store.environ, "TMPDIR": str(scratch), **environ}

    def holder(self, job: str, workers: list[Program]) -> Program:
        """The worker that has a job."""
        [(name,)] = self.database.ask(f"SELECT worker FROM jobs WHERE id = '{job}'")
        return next(each for each in workers if f"-{each.pid}-" in name)


def remove_all(cluster: Cluster, front: ServerProcess) -> None:
    """Remove all jobs, which leaves nothing in the bucket."""
    for each in front.client.get("/v1/videos").json()["data"]:
        front.client.delete(f"/v1/videos/{each['id']}")
    until(lambda: cluster.store.files() == [])


def submit(server: ServerProcess, seed: int, **headers: str) -> str:
    fields = {"prompt": "A person talks.", "num_clip": str(CLIPS), "seed": str(seed)}
    files = {"input_reference": ("a", _FACE.read_bytes()), "audio_reference": ("b", _SOUND.read_bytes())}
    answer = server.client.post("/v1/videos", data=fields, files=files, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.json()["id"]


def get(server: ServerProcess, job: str) -> dict[str, Any]:
    return server.client.get(f"/v1/videos/{job}").json()


def statuses(server: ServerProcess) -> list[str]:
    return [each["status"] for each in server.client.get("/v1/videos", params={"limit": 100}).json()["data"]]


def etag_of(server: ServerProcess, job: str) -> str:
    answer = server.client.get(f"/v1/videos/{job}/content")
    assert hashlib.sha256(answer.content).hexdigest() == answer.headers["etag"].strip('"')
    return answer.headers["etag"].strip('"')


def events_of(server: ServerProcess, job: str) -> list[tuple[str, dict]]:
    """The kept events of an ended job."""
    found = []
    blocks = server.client.get(f"/v1/videos/{job}/events").text.split("\n\n")
    for number, block in enumerate((block for block in blocks if block.startswith("id: ")), 1):
        lines = dict(line.split(": ", 1) for line in block.splitlines())
        assert int(lines["id"]) == number
        found.append((lines["event"], json.loads(lines["data"])))
    return found


def until(condition: Callable[[], Any], seconds: float = WITHIN) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "took too long"
        time.sleep(0.1)


def is_at_clip(server: ServerProcess, job: str, clip: int) -> bool:
    """Whether a job is within a clip."""
    found = get(server, job)
    assert found["status"] in ("queued", "in_progress"), found
    return found["clip"] == clip and found["step"] > 0


def check_made(server: ServerProcess, job: str, etag: str) -> list[tuple[str, dict]]:
    """That a job was made once, as it should be; its events."""
    assert etag_of(server, job) == etag
    events = events_of(server, job)
    kinds = [kind for kind, _ in events]
    assert kinds.count("completed") == 1 and kinds[-1] == "completed"
    assert [data["clip"] for kind, data in events if kind == "clip"] == list(range(1, CLIPS + 1))
    assert kinds.count("started") == kinds.count("requeued") + 1
    return events
