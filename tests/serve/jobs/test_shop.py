"""Jobs are made one after another, whatever ends: with workers that only say that they make videos."""

import os
import time
from types import SimpleNamespace

from sqlalchemy.exc import OperationalError

from talkverse_jax.serve.jobs import books
from tests.serve.jobs.acting import ended, kinds, until
from tests.serve.jobs.submissions import admit


def test_jobs_are_made_in_turn(made):
    it = made()
    ids = [admit(it.jobs).id for _ in range(3)]
    it.shop.start()
    until(ended(it.jobs, *ids))
    assert it.acting.asked == [(job, clip) for job in ids for clip in (1, 2, None)]
    assert kinds(it.jobs, ids[0]) == ["queued", "started", "clip", "clip", "notice", "completed"]
    assert it.jobs.state().state == "ready"
    it.shop.drain(1)
    assert it.jobs.state().state == "draining"


def test_a_job_goes_on_when_the_worker_died(made):
    it = made()
    deaths = iter([None, "die"])
    it.acting.answer = lambda message: next(deaths, None)
    job = admit(it.jobs).id
    it.shop.start()
    until(ended(it.jobs, job))
    assert [asked[1] for asked in it.acting.asked] == [1, 2, 2, None]
    found = kinds(it.jobs, job)
    assert found == ["queued", "started", "clip", "requeued", "started", "clip", "notice", "completed"]
    assert it.jobs.events(job)[3].data == {"reason": "worker_died"}


def test_a_job_over_which_workers_die_fails(made):
    it = made(max_tries=2)
    bad, good = admit(it.jobs).id, admit(it.jobs).id
    it.acting.answer = lambda message: "die" if message["job"] == bad else None
    it.shop.start()
    until(ended(it.jobs, bad, good))
    assert it.jobs.get("anna", bad).failure.code == "worker_died"
    assert it.jobs.get("anna", good).status == "completed"
    assert not it.broken.is_set()


def test_workers_that_die_and_die_end_the_server(made):
    it = made(max_tries=99)
    it.acting.answer = lambda message: "die"
    admit(it.jobs)
    it.shop.start()
    assert it.broken.wait(20)
    assert it.acting.started == 5


def test_a_cancelled_job_is_left_at_once(made):
    it = made()
    it.acting.held.clear()
    first, second = admit(it.jobs).id, admit(it.jobs).id
    it.shop.start()
    until(lambda: it.acting.asked)
    (it.jobs.folders.of(first) / "video.partial.mp4").write_bytes(bytes(100))
    assert it.jobs.cancel("anna", first).status == "failed"
    until(ended(it.jobs, second))
    until(lambda: it.jobs.row(first)["bytes"] == 107)  # what it has left counts
    assert kinds(it.jobs, first) == ["queued", "started", "failed"]
    assert it.jobs.folders.of(first).exists()


def test_a_deleted_job_goes_when_it_has_stopped(made):
    it = made()
    it.acting.held.clear()
    job = admit(it.jobs).id
    it.shop.start()
    until(lambda: it.acting.asked)
    assert it.jobs.delete("anna", job)
    until(lambda: not it.jobs.folders.of(job).exists())
    until(lambda: os.listdir(it.jobs.folders.gone) == [])


def test_a_full_disk_pauses(made, monkeypatch):
    it = made()
    free = [10 << 30]
    monkeypatch.setattr(books.shutil, "disk_usage", lambda path: SimpleNamespace(free=free[0]))
    full = iter([{"say": "disk_full"}])
    it.acting.answer = lambda message: next(full, None)
    job = admit(it.jobs).id
    it.shop.start()
    until(lambda: "requeued" in kinds(it.jobs, job))
    time.sleep(0.3)
    assert len(it.acting.asked) == 1 and it.jobs.get("anna", job).status == "queued"
    free[0] += 2 << 20
    until(ended(it.jobs, job))
    assert it.jobs.events(job)[2].data == {"reason": "disk_full"}


def test_a_drained_job_goes_on_in_the_next_server(made):
    it = made()
    job = admit(it.jobs).id
    it.acting.answer = lambda message: it.acting.held.clear() if message["clip"] == 1 else None
    it.shop.start()
    until(lambda: it.jobs.get("anna", job).clips_done == 1)
    it.shop.drain(0.1)
    assert it.jobs.get("anna", job).status == "queued"
    other, it.acting.asked = made(), []
    it.acting.answer = lambda message: None
    it.acting.held.set()
    other.shop.start()
    until(ended(other.jobs, job))
    assert [asked[1] for asked in it.acting.asked] == [2, None]
    found = kinds(other.jobs, job)
    assert found == ["queued", "started", "clip", "requeued", "started", "clip", "notice", "completed"]
    assert other.jobs.events(job)[3].data == {"reason": "drain"}


def test_a_database_on_a_full_disk_pauses(made, monkeypatch):
    it = made()
    job, free, tried = admit(it.jobs).id, [0], []
    start = it.jobs.life.start

    def full(job, **how):
        tried.append(job)
        if not free[0]:
            raise OperationalError("update", {}, Exception("database or disk is full"))
        return start(job, **how)

    monkeypatch.setattr(it.jobs.life, "start", full)
    monkeypatch.setattr(books.shutil, "disk_usage", lambda path: SimpleNamespace(free=free[0]))
    it.shop.start()
    until(lambda: tried)
    time.sleep(0.3)
    assert len(tried) == 1
    free[0] = 2 << 20
    until(ended(it.jobs, job))
    assert kinds(it.jobs, job)[-1] == "completed"
