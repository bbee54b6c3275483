"""Server and worker are killed at random moments, the disk is filled: every accepted job is finished, once, and has the
bytes of an undisturbed run."""

import contextlib
import hashlib
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.serve.processes import ROOT, ServerProcess

JOBS, KILLS, FULL = 30, 20, 2
SEEDS = 5  # different videos
_WITHIN = 3000  # seconds
_FLAGS = ["--size_bucket", "tiny-128", "--infer_frames", "8", "--sample_steps", "2", "--sample_guide_scale", "1"]
_FLAGS += ["--dtype", "float32"]
_SOUND = ROOT / "assets" / "speech.flac"
_FACE = ROOT / "assets" / "face.png"
_OF_SERVER = ("--min_free_bytes", "0", "--max_tries", "1000", "--max_queue", "100", "--max_queue_per_key", "100")
_FILES = {"video.mp4", "video.json", "thumbnail.webp", "spritesheet.jpg"}


def _submit(server: ServerProcess, number: int) -> str:
    """A job's id; the same for the same number."""
    fields = {"prompt": "A person talks.", "num_clip": "3", "seed": str(number % SEEDS)}
    files = {"input_reference": ("a", _FACE.read_bytes()), "audio_reference": ("b", _SOUND.read_bytes())}
    headers = {"Idempotency-Key": f"job-{number}"}
    answer = server.client.post("/v1/videos", data=fields, files=files, headers=headers)
    if answer.status_code >= 500:
        raise httpx.HTTPError(answer.text)  # such as a full disk
    assert answer.status_code == 200, answer.text
    return answer.json()["id"]


def _statuses(server: ServerProcess) -> list[str]:
    return [each["status"] for each in server.client.get("/v1/videos", params={"limit": 100}).json()["data"]]


def _etag(server: ServerProcess, job: str) -> str:
    answer = server.client.get(f"/v1/videos/{job}/content")
    assert hashlib.sha256(answer.content).hexdigest() == answer.headers["etag"].strip('"')
    return answer.headers["etag"].strip('"')


def _events(server: ServerProcess, job: str) -> list[tuple[str, dict]]:
    """The kept events of an ended job."""
    found, text = [], server.client.get(f"/v1/videos/{job}/events").text
    for number, block in enumerate((block for block in text.split("\n\n") if block.startswith("id: ")), 1):
        lines = dict(line.split(": ", 1) for line in block.splitlines())
        assert int(lines["id"]) == number
        found.append((lines["event"], json.loads(lines["data"])))
    return found


@contextlib.contextmanager
def _small_disk(folder: Path) -> Iterator[None]:
    """A disk of its own, where this machine lets us have one."""
    folder.mkdir()
    mounted = not subprocess.run(["mount", "-t", "tmpfs", "-o", "size=192m", "tmpfs", folder], check=False).returncode
    try:
        yield
    finally:
        if mounted:
            subprocess.run(["umount", "-l", folder], check=True)


def _fill(folder: Path) -> None:
    """Take the disk's room for a while, if it is a small one."""
    if os.statvfs(folder).f_blocks * os.statvfs(folder).f_frsize > 1 << 30:
        return
    ballast = folder.parent / f"{folder.name}" / "ballast"
    with open(ballast, "wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(1 << 20))
    with open(ballast, "ab", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(512))
    time.sleep(8)
    ballast.unlink()


class _Undisturbed:
    """The videos of all seeds, by a server that nobody kills."""

    def __init__(self, folder: Path, weights: Path, seeds: int):
        with ServerProcess(folder, weights, *_FLAGS, *_OF_SERVER) as server:
            ids = [_submit(server, number) for number in range(seeds)]
            _wait(server, seeds)
            self.etags = [_etag(server, job) for job in ids]


def _wait(server: ServerProcess, jobs: int) -> None:
    end = time.monotonic() + _WITHIN
    while (found := _statuses(server)) != ["completed"] * jobs:
        assert server.alive and time.monotonic() < end and "failed" not in found, found
        time.sleep(0.5)


def _wait_for_work(server: ServerProcess) -> None:
    """Until a job is in work, if one is soon."""
    end = time.monotonic() + 60
    while time.monotonic() < end and "in_progress" not in _statuses(server):
        time.sleep(0.1)


def _disturb(folder: Path, weights: Path, jobs: int, kills: int, full: int) -> tuple[list[str], ServerProcess]:
    """The ids of the jobs, and a server that is not killed any more."""
    dice, ids, worker_kills = random.Random(5), {}, 0
    server = ServerProcess(folder, weights, *_FLAGS, *_OF_SERVER)
    for turn in range(kills + full):
        with contextlib.suppress(httpx.HTTPError):
            for number in range(jobs * turn // (kills + full), jobs * (turn + 1) // (kills + full)):
                ids[number] = _submit(server, number)
            if dice.random() < 0.7:  # the others are killed while they begin
                _wait_for_work(server)
        time.sleep(dice.uniform(0, 5))
        if turn % (kills // full if full else kills + 1) == 1 and full:
            _fill(folder)
        elif dice.random() < 0.5 and worker_kills < 4 and server.kill_worker():
            worker_kills += 1  # the fifth in ten minutes would end the server
        else:
            server.kill()
            server, worker_kills = ServerProcess(folder, weights, *_FLAGS, *_OF_SERVER), 0
    for number in range(jobs):
        again = _submit(server, number)
        assert ids.setdefault(number, again) == again
    return [ids[number] for number in range(jobs)], server


def _check(tmp_path: Path, weights: Path, jobs: int, kills: int, full: int) -> None:
    seeds = min(SEEDS, jobs)
    expected = _Undisturbed(tmp_path / "calm", weights, seeds).etags
    folder = tmp_path / "data"
    with _small_disk(folder):
        ids, server = _disturb(folder, weights, jobs, kills, full)
        with server:
            _wait(server, jobs)
            assert len(set(ids)) == jobs == len(_statuses(server))
            for number, job in enumerate(ids):
                assert _etag(server, job) == expected[number % seeds]
                events = _events(server, job)
                kinds = [kind for kind, _ in events]
                assert kinds.count("completed") == 1 and kinds[-1] == "completed" and "failed" not in kinds
                assert [data["clip"] for kind, data in events if kind == "clip"] == [1, 2, 3]
                assert kinds.count("started") == kinds.count("requeued") + 1
                left = {path.name for path in (folder / "jobs" / job).iterdir()}
                assert left >= _FILES and len(left) == len(_FILES) + 2, left  # and the two inputs
        assert sorted(path.name for path in (folder / "jobs").iterdir()) == sorted(ids)
        assert not list((folder / "uploads").iterdir()) and not list((folder / "gone").iterdir())
        databases = ("jobs.sqlite", "workflows.sqlite")
        known = {f"{name}{end}" for name in databases for end in ("", "-wal", "-shm")} | {"lock"}
        assert {path.name for path in folder.iterdir()} <= known | {"jobs", "uploads", "gone"}


def _sampled(tmp_path: Path, weights: Path) -> str:
    """The digest of what `sample` makes of the first seed."""
    output = tmp_path / "sampled.mp4"
    command = [sys.executable, "-m", "talkverse_jax", "sample", "--weights", str(weights), "--output", str(output)]
    command += ["--image", str(_FACE), "--audio", str(_SOUND), "--prompt", "A person talks.", "--num_clip", "3"]
    environ = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run([*command, "--base_seed", "0", *_FLAGS], check=True, env=environ, capture_output=True)
    return hashlib.sha256(output.read_bytes()).hexdigest()


@pytest.mark.slow
def test_the_bytes_are_those_of_sample(tmp_path, tiny_weights):
    assert _Undisturbed(tmp_path / "calm", tiny_weights, 1).etags == [_sampled(tmp_path, tiny_weights)]


@pytest.mark.slow
def test_every_job_is_finished_once(tmp_path, tiny_weights):
    _check(tmp_path, tiny_weights, JOBS, KILLS, FULL)
