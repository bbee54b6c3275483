"""Fifty clients at once, a third of whose requests are bad, while videos are made."""

import json
import random
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import httpx
import pytest

from tests.serve.http.serving import picture, sound
from tests.serve.http.test_media import GIF, PLAYLISTS, bomb
from tests.serve.processes import ServerProcess

pytestmark = pytest.mark.slow

_CLIENTS, _EACH, _JOBS = 50, 10, 12
_TINY = ("--size_bucket", "tiny-128", "--infer_frames", "40", "--sample_steps", "2", "--sample_guide_scale", "1")

# Asks how a video stands until its input ends, and prints the seconds that each answer took.
_PROBE = """
import httpx, json, select, sys, time
took = []
with httpx.Client(trust_env=False, timeout=30) as client:
    while not select.select([sys.stdin], [], [], 0.05)[0]:
        began = time.perf_counter()
        assert client.get(sys.argv[1]).status_code == 200
        took.append(time.perf_counter() - began)
print(json.dumps(took))
"""


class _Crowd:
    """What clients do, and what they are told."""

    def __init__(self, server: ServerProcess):
        self.server, self.told, self.wrong = server, Counter(), []
        self.accepted: list[str] = []
        self._left, self._lock = _JOBS, threading.Lock()

    def client(self, number: int) -> None:
        """Ten requests of a client."""
        chance = random.Random(number)
        bad = [self._kind, self._header, self._length, self._half, self._vanish]
        for _ in range(_EACH):
            act = chance.choice([*bad, self._look, self._look, self._create])
            with httpx.Client(base_url=self.server.url, timeout=120, trust_env=False, verify=False) as client:
                act(client, chance)

    def _expect(self, answer: httpx.Response, *expected: int) -> None:
        with self._lock:
            self.told[answer.status_code] += 1
            if answer.status_code not in (*expected, 503):
                self.wrong.append((answer.status_code, answer.text[:300]))

    def _create(self, client: httpx.Client, chance: random.Random) -> None:
        with self._lock:
            self._left -= 1
            allowed = self._left >= 0
        if not allowed:
            self._look(client, chance)
            return
        files = {"input_reference": ("../../a\n.png", picture()), "audio_reference": ("a", sound())}
        answer = client.post("/v1/videos", data={"prompt": "a", "num_clip": "1"}, files=files)
        self._expect(answer, 200)
        if answer.status_code == 200:
            self.accepted.append(answer.json()["id"])

    def _look(self, client: httpx.Client, chance: random.Random) -> None:
        self._expect(client.get(chance.choice(["/v1/videos", "/health", "/v1/models", "/"])), 200)

    def _kind(self, client: httpx.Client, chance: random.Random) -> None:
        image, status = chance.choice(
            [(GIF, 415), (b"a text", 415), (PLAYLISTS[0], 415), (bomb(60_000, 60_000), 413), (picture()[:2000], 422)]
        )
        files = {"input_reference": ("a.png", image), "audio_reference": ("a.wav", sound())}
        self._expect(client.post("/v1/videos", data={"prompt": "a"}, files=files), status)

    def _header(self, client: httpx.Client, chance: random.Random) -> None:
        name = chance.choice(["Host", "Origin"])
        self._expect(client.get("/v1/videos", headers={name: "http://evil.example"}), 403)

    def _length(self, client: httpx.Client, chance: random.Random) -> None:
        """Two gigabytes are promised."""
        head = {"Content-Type": "multipart/form-data; boundary=b", "Content-Length": str(2 << 30)}
        self._raw(head, b"--b\r\n", b"413")

    def _half(self, client: httpx.Client, chance: random.Random) -> None:
        body = b'--b\r\nContent-Disposition: form-data; name="prompt"\r\n\r\nHalf'
        self._raw({"Content-Type": "multipart/form-data; boundary=b", "Content-Length": str(len(body))}, body, b"400")

    def _vanish(self, client: httpx.Client, chance: random.Random) -> None:
        self._raw({"Content-Type": "application/json", "Content-Length": "1000"}, b"{", None)

    def _raw(self, headers: dict[str, str], body: bytes, status: bytes | None) -> None:
        host, port = self.server.url.removeprefix("http://").split(":")
        lines = [f"{name}: {value}\r\n" for name, value in headers.items()]
        head = "".join(["POST /v1/videos HTTP/1.1\r\nHost: localhost\r\n", *lines, "\r\n"])
        with socket.create_connection((host, int(port)), timeout=60) as connection:
            connection.sendall(head.encode() + body)
            if status is not None and status not in (answer := connection.recv(4096)).split(b"\r\n")[0]:
                self.wrong.append((status, answer))


def _memory(process: int) -> int:
    """Resident bytes."""
    line = next(line for line in Path(f"/proc/{process}/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) << 10


def test_a_crowd(tiny_weights, tmp_path):
    with ServerProcess(tmp_path / "data", tiny_weights, *_TINY, "--tts_engine", "none") as server:
        assert server.line() == "talkverse_jax: ready"
        crowd = _Crowd(server)
        with httpx.Client(base_url=server.url, timeout=120, trust_env=False, verify=False) as client:
            crowd._create(client, random.Random(0))
        idle = _memory(server.pid)
        command = [sys.executable, "-c", _PROBE, f"{server.url}/v1/videos/{crowd.accepted[0]}"]
        probe = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        threads = [threading.Thread(target=crowd.client, args=(number,)) for number in range(_CLIENTS)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        grown = _memory(server.pid) - idle
        took = sorted(json.loads(probe.communicate("end\n")[0]))
        print(f"p95 {took[len(took) * 95 // 100] * 1000:.0f} ms of {len(took)}, {grown >> 20} MB more, {crowd.told}")
        assert crowd.wrong == []
        assert took[len(took) * 95 // 100] < 2 and grown < 400 << 20
        assert len(crowd.accepted) >= _JOBS // 2
        end = time.monotonic() + 300
        for job in crowd.accepted:
            while (video := server.client.get(f"/v1/videos/{job}").json())["status"] not in ("completed", "failed"):
                assert time.monotonic() < end
                time.sleep(0.5)
            assert video["status"] == "completed", video
        assert list((tmp_path / "data" / "uploads").iterdir()) == []
