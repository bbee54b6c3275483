"""Jobs of one shape are made together, and nobody pays for what another does."""

import time
from types import SimpleNamespace

from talkverse_jax.serve.jobs import books
from tests.serve.jobs.acting import ended, kinds, until
from tests.serve.jobs.submissions import admit


def _admit(jobs, *shapes, **values):
    return [admit(jobs, shape=shape, **values).id for shape in shapes]


def test_jobs_of_one_shape_are_made_together(made):
    it = made(pack=2)
    a, b, other, c = _admit(it.jobs, "x", "x", "y", "x")
    it.shop.start()
    until(ended(it.jobs, a, b, c, other))
    assert it.acting.rounds[:2] == [[a, b], [a, b]] and sorted(it.acting.rounds[2:4]) == sorted([[a], [b]])
    assert it.acting.asked.index((other, 1)) < it.acting.asked.index((c, 1)), "its turn was before"
    assert kinds(it.jobs, b) == ["queued", "started", "clip", "clip", "notice", "completed"]


def test_a_job_of_no_known_shape_is_made_alone(made):
    it = made(pack=3)
    ids = _admit(it.jobs, None, None)
    it.shop.start()
    until(ended(it.jobs, *ids))
    assert all(len(jobs) == 1 for jobs in it.acting.rounds)


def test_a_place_that_becomes_free_is_taken(made):
    it = made(pack=2)
    [long], [short, third] = _admit(it.jobs, "x", clips=4), _admit(it.jobs, "x", "x", clips=1)
    it.shop.start()
    until(ended(it.jobs, long, short, third))
    assert [each for each in it.acting.rounds if long in each] == [[long, short], [long, third], [long], [long], [long]]
    assert it.jobs.state().running == 0


def test_one_that_is_cancelled_or_fails_leaves_the_others(made):
    it = made(pack=3)
    it.acting.held.clear()
    cancelled, failing, good = _admit(it.jobs, "x", "x", "x")
    failure = {"say": "failed", "code": "not_finite", "message": "no", "param": None, "trace": ""}
    it.acting.answer = lambda message: failure if message["job"] == failing else None
    it.shop.start()
    until(lambda: it.acting.rounds)
    assert it.jobs.state().running == 3
    assert it.jobs.cancel("anna", cancelled).status == "failed"
    until(ended(it.jobs, failing, good))
    assert it.jobs.get("anna", failing).failure.code == "not_finite"
    assert kinds(it.jobs, good) == ["queued", "started", "clip", "clip", "notice", "completed"]


def test_only_the_job_over_which_workers_die_fails(made):
    it = made(pack=3, max_tries=2)
    ids = first, bad, last = _admit(it.jobs, "x", "x", "x")
    it.acting.answer = lambda message: "die" if message["job"] == bad and message["clip"] == 2 else None
    it.shop.start()
    until(ended(it.jobs, *ids))
    assert it.jobs.get("anna", bad).failure.code == "worker_died"
    assert {it.jobs.get("anna", job).status for job in (first, last)} == {"completed"}
    assert not it.broken.is_set() and it.acting.started == 3
    at = it.acting.rounds.index([bad])
    assert it.acting.rounds[:2] == [[first, bad, last]] * 2 and [first] in it.acting.rounds[2:at], "tried alone"


def test_a_full_disk_puts_all_back(made, monkeypatch):
    it = made(pack=2)
    free = [10 << 30]
    monkeypatch.setattr(books.shutil, "disk_usage", lambda path: SimpleNamespace(free=free[0]))
    full = iter([{"say": "disk_full"}])
    it.acting.answer = lambda message: next(full, None) if message["clip"] == 1 else None
    ids = _admit(it.jobs, "x", "x")
    it.shop.start()
    until(lambda: all("requeued" in kinds(it.jobs, job) for job in ids))
    time.sleep(0.3)
    assert it.jobs.state().running == 0 and len(it.acting.rounds) == 1
    free[0] += 2 << 20
    until(ended(it.jobs, *ids))
    for job in ids:
        found = it.jobs.events(job)
        assert [event.kind for event in found].count("clip") == 2
        assert {event.data["reason"] for event in found if event.kind == "requeued"} == {"disk_full"}


def test_a_drain_lets_all_finish_their_clips(made):
    it = made(pack=2)
    ids = _admit(it.jobs, "x", "x")
    it.acting.held.clear()
    it.shop.start()
    until(lambda: it.acting.rounds)
    it.acting.answer = lambda message: time.sleep(0.3)
    it.acting.held.set()
    it.shop.drain(20)
    assert [it.jobs.get("anna", job).clips_done for job in ids] == [1, 1]
    assert {it.jobs.get("anna", job).status for job in ids} == {"queued"} and len(it.acting.rounds) == 1
