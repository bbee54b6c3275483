"""Fifty clients at once, a third of whose requests mean no good, while videos are made."""

import json
import queue
import random
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import httpx
import pytest

from tests.serve.hostile import HOSTILE, job, stray
from tests.serve.processes import ROOT, ServerProcess

CLIENTS, REQUESTS, JOBS = 50, 500, 40
P95 = 0.1  # seconds, of a status, beside what an idle server takes on this machine
GROWTH = 100  # MB above the idle server
FLAT = 16  # MB between the first half of the requests and the second
_FLAGS = ["--size_bucket", "tiny-128", "--infer_frames", "8", "--sample_steps", "2", "--sample_guide_scale", "1"]
_FLAGS += ["--dtype", "float32", "--max_queue", "200", "--max_queue_per_key", "200", "--upload_timeout", "3"]
_FLAGS += ["--max_upload_bytes", "20000000"]
_STATUSES = ("/health", "/ready", "/v1/models", "/v1/videos?limit=100", "/")


class Clients:
    """They take requests from one heap.

    Attributes:
      accepted: ids of jobs.
      wrong: what came of a request that should not have.
      peak: MB of the server.
    """

    def __init__(self, server: ServerProcess):
        self._server = server
        self.accepted: list[str] = []
        self.wrong: list[tuple[str, object]] = []
        self.peak = 0.0

    def send(self, requests: list[str]) -> None:
        """All of them, by all clients."""
        heap: queue.SimpleQueue = queue.SimpleQueue()
        for name in requests:
            heap.put(name)
        threads = [threading.Thread(target=self._client, args=(heap,)) for _ in range(CLIENTS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            while thread.is_alive():
                thread.join(0.1)
                self.peak = max(self.peak, megabytes(self._server.pid))

    def _client(self, heap: queue.SimpleQueue) -> None:
        with httpx.Client(base_url=self._server.url, timeout=120, trust_env=False) as client:
            while True:
                try:
                    name = heap.get_nowait()
                except queue.Empty:
                    return
                try:
                    self._ask(client, name)
                except Exception as error:  # whatever it is, it is no answer
                    self.wrong.append((name, repr(error)))

    def _ask(self, client: httpx.Client, name: str) -> None:
        if name == "job":
            answer = job(client, len(self.accepted))
            if answer.status_code != 200:
                self.wrong.append((name, answer.text))
            else:
                self.accepted.append(answer.json()["id"])
        elif name in HOSTILE:
            request, right = HOSTILE[name]
            if (outcome := request(client)) not in right:
                self.wrong.append((name, outcome))
        elif (status := client.get(name).status_code) != 200:
            self.wrong.append((name, status))


def megabytes(process: int) -> float:
    """Memory of a process that is no file's."""
    told = dict(line.split(":") for line in Path(f"/proc/{process}/status").read_text().splitlines())
    return int(told["RssAnon"].split()[0]) / 1000


def _requests() -> list[str]:
    bad = [name for name, _ in zip(list(HOSTILE) * REQUESTS, range(REQUESTS // 3))]
    made = ["job"] * JOBS + bad
    made += [_STATUSES[number % len(_STATUSES)] for number in range(REQUESTS - len(made))]
    random.Random(0).shuffle(made)
    return made


def _p95(times: list[float]) -> float:
    return statistics.quantiles(times, n=20)[-1]


@pytest.mark.slow
def test_fifty_clients(tiny_weights, tmp_path, capsys):
    """The server answers as it should, in time, in the same memory; every job that it accepted is made."""
    requests, folder = _requests(), tmp_path / "data"
    with ServerProcess(folder, tiny_weights, *_FLAGS) as server:
        assert server.line() == "talkverse_jax: ready"
        clients = Clients(server)
        clients.send(["job", *_STATUSES, *HOSTILE])  # what is loaded once is loaded
        idle = megabytes(server.pid)
        place = server.url.removeprefix("http://")
        command = [sys.executable, "-m", "tests.serve.probe", place]
        probe = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        clients.send(requests[: REQUESTS // 2])
        half = megabytes(server.pid)
        clients.send(requests[REQUESTS // 2 :])
        whole = megabytes(server.pid)
        found = json.loads(probe.communicate("\n", timeout=60)[0])
        took, others = _p95(found["took"]), _p95(found["idle"])
        figures = [
            f"{len(found['took'])} statuses: p95 {1000 * took:.0f} ms, of an idle server {1000 * others:.0f}",
            f"memory: idle {idle:.0f} MB, after half of the requests {half:.0f}, after all {whole:.0f}",
            f"and at most {clients.peak:.0f}",
        ]
        with capsys.disabled():
            print("", *figures, sep="\n")
        assert clients.wrong == []
        assert len(clients.accepted) == JOBS + 1
        assert took < P95 + others
        assert clients.peak < idle + GROWTH and whole < half + FLAT

        end = time.monotonic() + 900
        while (states := _states(server)).keys() & {"queued", "in_progress"}:
            assert time.monotonic() < end, states
            time.sleep(1)
        assert states == {"completed": JOBS + 1}
        assert stray(folder) == [] and list((folder / "uploads").iterdir()) == []


def _states(server: ServerProcess) -> Counter:
    return Counter(each["status"] for each in server.client.get("/v1/videos?limit=100").json()["data"])
