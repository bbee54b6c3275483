"""Fronts and workers that share a database of Postgres and a bucket, and no disk: whatever ends, every job is finished
once, with the bytes of a server that does all by itself."""

import os
import signal
import time

import httpx
import pytest

from tests.serve.machines.bucket import Bucket
from tests.serve.machines.cluster import (
    CLIPS,
    WITHIN,
    Cluster,
    check_made,
    etag_of,
    get,
    is_at_clip,
    remove_all,
    statuses,
    submit,
    until,
)
from tests.serve.processes import Program, ServerProcess

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def etags(cluster) -> list[str]:
    """Of the videos of two seeds, by a server that does all by itself."""
    with ServerProcess(cluster.folder / "alone", cluster.weights, *cluster.flags) as server:
        ids = [submit(server, seed) for seed in range(2)]
        until(lambda: statuses(server) == ["completed"] * 2)
        return [etag_of(server, job) for job in ids]


def test_a_killed_workers_job_goes_on_elsewhere(cluster, etags, front):
    with cluster.worker() as one, cluster.worker() as two:
        ids = [submit(front, number % 2) for number in range(4)]
        until(lambda: is_at_clip(front, ids[0], 2))
        killed = cluster.holder(ids[0], [one, two])
        child = killed.worker()
        killed.signal(signal.SIGKILL)
        os.kill(child, signal.SIGKILL)
        until(lambda: statuses(front) == ["completed"] * 4)
        for number, job in enumerate(ids):
            events = check_made(front, job, etags[number % 2])
            assert [data["reason"] for kind, data in events if kind == "requeued"] == ["worker_died"] * (not number)
        assert front.client.get("/health").json()["state"] == "ready"


def test_a_worker_that_was_only_paused_disturbs_nobody(cluster, etags, front):
    with cluster.worker() as one, cluster.worker() as two:
        job = submit(front, 0)
        until(lambda: is_at_clip(front, job, 2))
        paused = cluster.holder(job, [one, two])
        child = paused.worker()
        for process in (paused.pid, child):
            os.kill(process, signal.SIGSTOP)
        until(lambda: get(front, job)["attempt"] == 1 and is_at_clip(front, job, 2))
        for process in (child, paused.pid):
            os.kill(process, signal.SIGCONT)
        until(lambda: statuses(front) == ["completed"])
        check_made(front, job, etags[0])
        again = [submit(front, 1) for _ in range(2)]  # and it makes others
        until(lambda: statuses(front) == ["completed"] * 3)
        assert {cluster.holder(each, [one, two]) for each in again} == {one, two}
        for each in again:
            check_made(front, each, etags[1])


def test_a_drained_workers_job_goes_on_elsewhere(cluster, etags, front):
    with cluster.worker("--drain_seconds", "0") as one:
        job = submit(front, 0)
        until(lambda: is_at_clip(front, job, 2))
        one.signal(signal.SIGTERM)
        assert [one.line() for _ in range(3)] == [
            f"talkverse_jax: {state}" for state in ("ready", "draining", "stopped")
        ]
        assert one.wait() == 0
    assert get(front, job)["status"] == "queued"
    with cluster.worker():
        until(lambda: statuses(front) == ["completed"])
    events = check_made(front, job, etags[0])
    assert [data["reason"] for kind, data in events if kind == "requeued"] == ["drain"]


def test_a_shared_folder_will_do(cluster, etags, tmp_path):
    shared = tmp_path / "shared"
    here = Cluster(tmp_path, cluster.weights, cluster.database, Bucket(str(shared), {}))
    with here.front() as front, here.worker() as one:
        job = submit(front, 0)
        until(lambda: is_at_clip(front, job, 2))
        child = one.worker()
        one.signal(signal.SIGKILL)
        os.kill(child, signal.SIGKILL)
        with here.worker():
            until(lambda: statuses(front) == ["completed"])
            assert shared.stat().st_mode & 0o777 == 0o700
            check_made(front, job, etags[0])
            front.client.delete(f"/v1/videos/{job}")
            until(lambda: not list((shared / "videos").iterdir()))


def test_fronts_share_jobs(cluster, etags, front):
    with cluster.front() as other, cluster.worker():
        job = submit(front, 0, **{"Idempotency-Key": "k"})
        assert submit(other, 0, **{"Idempotency-Key": "k"}) == job
        assert statuses(other) in (["queued"], ["in_progress"])
        with httpx.stream("GET", f"{other.url}/v1/videos/{job}/events", timeout=WITHIN) as events:
            kinds = [line.removeprefix("event: ") for line in events.iter_lines() if line.startswith("event: ")]
        kept = [kind for kind in kinds if kind != "progress"]
        assert kept == ["queued", "started", *["clip"] * CLIPS, "completed"] and "progress" in kinds
        check_made(other, job, etags[0])
        part = other.client.get(f"/v1/videos/{job}/content", headers={"Range": "bytes=100-199"})
        assert part.content == front.client.get(f"/v1/videos/{job}/content").content[100:200]

        second = submit(other, 1)
        until(lambda: get(front, second)["clips_done"])
        begun = front.client.get(f"/v1/videos/{second}/stream").content  # ends with the job
        assert get(other, second)["status"] == "completed" and begun[4:8] == b"ftyp" and b"moof" in begun
        assert begun.count(b"mdat") > CLIPS
        third = submit(front, 1)
        until(lambda: get(other, third)["status"] == "in_progress")
        assert other.client.delete(f"/v1/videos/{third}").json()["deleted"]
        assert front.client.get(f"/v1/videos/{third}").status_code == 404
        assert front.client.post(f"/v1/videos/{second}/cancel").status_code == 409
        fourth = submit(front, 0)  # the worker has left the deleted one
        until(lambda: get(other, fourth)["status"] == "in_progress")
        assert other.client.post(f"/v1/videos/{fourth}/cancel").json()["error"]["code"] == "cancelled"
        until(lambda: front.client.get("/health").json()["running"] == 0)
        front.signal(signal.SIGTERM)
        assert front.wait(20) == 0
        assert sorted(statuses(other)) == ["completed", "completed", "failed"]
        remove_all(cluster, other)


def test_a_database_that_is_away_for_a_while_harms_nothing(cluster, etags, front):
    with cluster.worker():
        job = submit(front, 0)
        until(lambda: is_at_clip(front, job, 1))
        cluster.database.stop()
        answer = front.client.get("/v1/videos")
        assert answer.status_code == 503 and answer.headers["retry-after"]
        assert not front.client.get("/health").json()["ok"]
        time.sleep(8)
        cluster.database.start()
        until(lambda: statuses(front) == ["completed"])
        check_made(front, job, etags[0])


def test_what_cannot_work_together_is_told(cluster, front, tmp_path):
    log = tmp_path / "log"
    wrong = cluster.database.url.replace(":secret", ":another")
    told = ("--weights", str(cluster.weights), "--data_dir", str(tmp_path))
    for flags, said in (
        (("--database", wrong), "password authentication failed"),
        (("--database", "mysql://a:hidden@b/c"), "--database is no address of a database of Postgres"),
        ((), "--database is missing"),
    ):
        with Program(log, "serve-worker", *told, *flags) as program:
            assert program.wait() == 2
        [line] = log.read_text().splitlines()
        assert said in line and "another" not in line.replace("another process", "") and "hidden" not in line
        log.unlink()
