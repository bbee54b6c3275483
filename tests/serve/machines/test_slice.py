"""A worker of two processes, as on the hosts of a slice of TPUs: it makes what `sample` makes with two, also when one
of them is killed."""

import contextlib
import hashlib
import os
import signal
from pathlib import Path

import pytest

from tests.processes import free_address
from tests.serve.machines.cluster import Cluster, check_made, is_at_clip, statuses, submit, until
from tests.serve.processes import ROOT, Program

pytestmark = pytest.mark.slow

_ONE_DEVICE = {"XLA_FLAGS": "--xla_force_host_platform_device_count=1"}


def _place(address: str, number: int) -> tuple[str, ...]:
    place = ("--coordinator_address", address, "--num_processes", "2", "--process_id", str(number))
    return (*place, "--mesh", "context=2", "--heartbeat_timeout", "10")


def _sampled(cluster: Cluster, folder: Path) -> str:
    """The digest of what `sample` makes with two processes."""
    address, output = free_address(), folder / "sampled.mp4"
    files = ("--image", str(ROOT / "assets/face.png"), "--audio", str(ROOT / "assets/speech.flac"))
    job = (*files, "--prompt", "A person talks.", "--num_clip", "3", "--base_seed", "0", "--output", str(output))
    with contextlib.ExitStack() as running:
        for number in range(2):
            given = ("--weights", str(cluster.weights), *cluster.flags, *job, *_place(address, number))
            log = folder / f"sample{number}.log"
            program = running.enter_context(Program(log, "sample", *given, environ=_ONE_DEVICE))
        assert program.wait(300) == 0, log.read_text()
        until(output.exists)
    return hashlib.sha256(output.read_bytes()).hexdigest()


def test_two_processes_are_one_worker(cluster, front, tmp_path):
    etag, address = _sampled(cluster, tmp_path), free_address()
    with contextlib.ExitStack() as running:
        started = [cluster.worker(*_place(address, number), environ=_ONE_DEVICE) for number in range(2)]
        for each in started:
            running.enter_context(each)
        assert [each.line() for each in started] == ["talkverse_jax: ready"] * 2
        jobs = [submit(front, 0) for _ in range(2)]
        until(lambda: is_at_clip(front, jobs[1], 2))
        child = started[1].worker()
        os.kill(child, signal.SIGKILL)
        until(lambda: statuses(front) == ["completed"] * 2)
        check_made(front, jobs[0], etag)
        events = check_made(front, jobs[1], etag)
        assert [data["reason"] for kind, data in events if kind == "requeued"] == ["worker_died"]
        third = submit(front, 0)
        until(lambda: is_at_clip(front, third, 2))
        front.client.post(f"/v1/videos/{third}/cancel")
        fourth = submit(front, 0)
        until(lambda: is_at_clip(front, fourth, 1))
        for each in started:
            each.signal(signal.SIGTERM)
        for each in started:
            assert each.wait(90) == 0
        front.client.delete(f"/v1/videos/{third}")
        assert sorted(statuses(front)) == ["completed", "completed", "queued"]
