"""Jobs are made one after another, whatever ends: with workers that only say that they make videos."""

import os
import threading
import time
from types import SimpleNamespace

import pytest
from sqlalchemy.exc import OperationalError

from talkverse_jax.serve.jobs import shop as shop_module
from talkverse_jax.serve.jobs.folders import VARIANTS
from talkverse_jax.serve.jobs.shop import Shop
from tests.serve.jobs.submissions import admit, open_jobs


class Acting:
    """In place of a worker's process: answers as a test wants, and counts what was asked."""

    def __init__(self):
        self.asked: list[tuple] = []
        self.started = 0
        self.answer = lambda message: None  # in place of the usual one; "die" ends the worker
        self.held = threading.Event()
        self.held.set()

    def __call__(self, setup, hear, died):
        self.started += 1
        self._hear, self._died, self._alive = hear, died, True
        self._stopped = set()
        threading.Thread(target=hear, args=({"say": "ready", "device": 0},)).start()
        return self

    pid = 0

    def send(self, message):
        if message["do"] == "stop":
            self._stopped.add(message["job"])
            self.held.set()
        else:
            self.asked.append((message["do"], message["job"], message.get("clip")))
            threading.Thread(target=self._serve, args=(message,)).start()

    def _serve(self, message):
        self.held.wait()
        said = self.answer(message)
        if said == "die":
            self._died(-9)
            return
        if message["job"] in self._stopped:
            said = {"say": "stopped"}
        usual = {"say": "clip", "clip": message.get("clip"), "frames": 25 * message.get("clip", 0), "playable": 9}
        if message["do"] == "finish":
            variants = {name: {"size": 1, "etag": "e", "modified": 0.0} for name in VARIANTS}
            usual = {"say": "finished", "timings": {}, "variants": variants, "notices": ["cut"], "bytes": 3}
        self._hear({**(said or usual), "job": message["job"], "request": message["request"]})

    def kill(self):
        pass


@pytest.fixture
def made(tmp_path, monkeypatch):
    acting = Acting()
    monkeypatch.setattr(shop_module, "WorkerProcess", acting)
    opened = []

    def begin(**options):
        jobs = open_jobs(tmp_path, **options)
        jobs.recover()
        broken = threading.Event()
        shop = Shop(jobs, SimpleNamespace(), broken=lambda why: broken.set())
        opened.append(shop)
        return SimpleNamespace(jobs=jobs, shop=shop, acting=acting, broken=broken)

    yield begin
    acting.held.set()
    for shop in opened:
        shop.close()


def _until(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "took too long"
        time.sleep(0.02)


def _kinds(jobs, job):
    return [event.kind for event in jobs.events(job)]


def _ended(jobs, *ids):
    return lambda: all(jobs.get("anna", job).ended for job in ids)


def test_jobs_are_made_in_turn(made):
    it = made()
    ids = [admit(it.jobs).id for _ in range(3)]
    it.shop.start()
    _until(_ended(it.jobs, *ids))
    one = [("clip", 1), ("clip", 2), ("finish", None)]
    assert it.acting.asked == [(do, job, clip) for job in ids for do, clip in one]
    assert _kinds(it.jobs, ids[0]) == ["queued", "started", "clip", "clip", "notice", "completed"]
    assert it.jobs.state().state == "ready"
    it.shop.drain(1)
    assert it.jobs.state().state == "draining"


def test_a_job_goes_on_when_the_worker_died(made):
    it = made()
    deaths = iter([None, "die"])
    it.acting.answer = lambda message: next(deaths, None)
    job = admit(it.jobs).id
    it.shop.start()
    _until(_ended(it.jobs, job))
    assert [asked[2] for asked in it.acting.asked] == [1, 2, 2, None]
    kinds = _kinds(it.jobs, job)
    assert kinds == ["queued", "started", "clip", "requeued", "started", "clip", "notice", "completed"]
    assert it.jobs.events(job)[3].data == {"reason": "worker_died"}


def test_a_job_over_which_workers_die_fails(made):
    it = made(max_tries=2)
    bad, good = admit(it.jobs).id, admit(it.jobs).id
    it.acting.answer = lambda message: "die" if message["job"] == bad else None
    it.shop.start()
    _until(_ended(it.jobs, bad, good))
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
    _until(lambda: it.acting.asked)
    assert it.jobs.cancel("anna", first).status == "failed"
    _until(_ended(it.jobs, second))
    assert _kinds(it.jobs, first) == ["queued", "started", "failed"]
    assert it.jobs.folders.of(first).exists()


def test_a_deleted_job_goes_when_it_has_stopped(made):
    it = made()
    it.acting.held.clear()
    job = admit(it.jobs).id
    it.shop.start()
    _until(lambda: it.acting.asked)
    assert it.jobs.delete("anna", job)
    _until(lambda: not it.jobs.folders.of(job).exists())
    _until(lambda: os.listdir(it.jobs.folders.gone) == [])


def test_a_full_disk_pauses(made, monkeypatch):
    it = made()
    free = [10 << 30]
    monkeypatch.setattr(shop_module.shutil, "disk_usage", lambda path: SimpleNamespace(free=free[0]))
    full = iter([{"say": "disk_full"}])
    it.acting.answer = lambda message: next(full, None)
    job = admit(it.jobs).id
    it.shop.start()
    _until(lambda: "requeued" in _kinds(it.jobs, job))
    time.sleep(0.3)
    assert len(it.acting.asked) == 1 and it.jobs.get("anna", job).status == "queued"
    free[0] += 2 << 20
    _until(_ended(it.jobs, job))
    assert it.jobs.events(job)[2].data == {"reason": "disk_full"}


def test_a_drained_job_goes_on_in_the_next_server(made):
    it = made()
    job = admit(it.jobs).id
    it.acting.answer = lambda message: it.acting.held.clear() if message["clip"] == 1 else None
    it.shop.start()
    _until(lambda: it.jobs.get("anna", job).clips_done == 1)
    it.shop.drain(0.1)
    assert it.jobs.get("anna", job).status == "queued"
    other, it.acting.asked = made(), []
    it.acting.answer = lambda message: None
    other.shop.start()
    _until(_ended(other.jobs, job))
    assert [asked[2] for asked in it.acting.asked] == [2, None]
    kinds = _kinds(other.jobs, job)
    assert kinds == ["queued", "started", "clip", "requeued", "started", "clip", "notice", "completed"]
    assert other.jobs.events(job)[3].data == {"reason": "drain"}


def test_a_database_on_a_full_disk_pauses(made, monkeypatch):
    it = made()
    job, free, tried = admit(it.jobs).id, [0], []
    start = it.jobs.life.start

    def full(job):
        tried.append(job)
        if not free[0]:
            raise OperationalError("update", {}, Exception("database or disk is full"))
        return start(job)

    monkeypatch.setattr(it.jobs.life, "start", full)
    monkeypatch.setattr(shop_module.shutil, "disk_usage", lambda path: SimpleNamespace(free=free[0]))
    it.shop.start()
    _until(lambda: tried)
    time.sleep(0.3)
    assert len(tried) == 1
    free[0] = 2 << 20
    _until(_ended(it.jobs, job))
    assert _kinds(it.jobs, job)[-1] == "completed"
