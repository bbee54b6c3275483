"""Processes that share a database: who lives, who has which job, and what a worker may write that was thought dead."""

import asyncio
import time

import pytest

from talkverse_jax.core.errors import UserError
from talkverse_jax.serve.jobs import crew as crew_module
from talkverse_jax.serve.jobs.crew import Crew, digest_of
from talkverse_jax.serve.jobs.database import Database, url_of
from talkverse_jax.serve.jobs.heart import Heart
from talkverse_jax.serve.jobs.job import JobEvent, JobFailure, Progress
from talkverse_jax.serve.jobs.others import Others
from tests.serve.jobs.submissions import admit, finish, open_jobs


@pytest.fixture
def jobs(tmp_path):
    made = open_jobs(tmp_path)
    yield made
    made.close()


def _joined(jobs, works=True, weights="w") -> Crew:
    crew = Crew(jobs.database, works=works, weights=weights)
    crew.join()
    return crew


def test_the_living_are_known_with_what_they_do(jobs):
    front, worker = _joined(jobs, works=False), _joined(jobs)
    front.tell("ready")
    assert front.state() == ("loading", 0) and front.doing() == {}
    now = Progress("x", "in_progress", phase="denoising", clip=1, clips=2, step=3, steps=4)
    worker.tell("ready", 5, {"x": now})
    assert front.state() == ("ready", 5) and front.doing() == {"x": now}
    worker.leave()
    assert front.state() == ("loading", 0) and front.doing() == {}


def test_other_weights_are_refused_while_others_live(jobs, monkeypatch):
    _joined(jobs)
    with pytest.raises(UserError, match="--weights are not those of"):
        _joined(jobs, weights="v")
    monkeypatch.setattr(crew_module, "DEAD_AFTER", 0.0)
    time.sleep(0.01)
    _joined(jobs, weights="v")
    assert digest_of("a", {"b": 1}) != digest_of("a", {"b": 2})


def test_the_jobs_of_the_dead_are_put_back_and_count(jobs):
    worker, other = _joined(jobs), _joined(jobs)
    job = admit(jobs).id
    assert jobs.life.start(job, worker=worker.name, attempt=0)
    assert not jobs.life.start(job, worker=other.name, attempt=0)
    assert other.lost() == []
    worker.leave()  # is missed as one that was not seen is
    assert other.lost() == [(job, 0)]
    jobs.life.died(job, 2, attempt=0)
    jobs.life.died(job, 2, attempt=0)  # by another that looked at the same time
    assert other.lost() == [] and jobs.life.deaths(job) == 1
    assert jobs.life.start(job, worker="gone", attempt=1)
    for lost, attempt in other.lost():
        jobs.life.died(lost, 2, attempt=attempt)
    assert jobs.get("anna", job).failure.code == "worker_died"
    kinds = [event.kind for event in jobs.events(job)]
    assert kinds == ["queued", "started", "requeued", "started", "requeued", "failed"]


def test_a_worker_that_was_thought_dead_changes_nothing(jobs):
    job = admit(jobs).id
    jobs.life.start(job, worker="paused", attempt=0)
    assert jobs.life.clip(job, 1, 25, 9, shelf="0-paused", attempt=0)
    jobs.life.died(job, 3, attempt=0)
    jobs.life.start(job, worker="next", attempt=1)
    assert not jobs.life.clip(job, 2, 50, 10, shelf="0-paused", attempt=0)
    assert not jobs.life.notice(job, "late", attempt=0)
    assert not jobs.life.complete(job, {}, {}, 1, shelf="0-paused", attempt=0)
    assert not jobs.life.fail(job, JobFailure("not_finite", "no numbers"), attempt=0)
    assert not jobs.life.requeue(job, "drain", attempt=0)
    row = jobs.row(job)
    assert (row["status"], row["clips_done"], row["shelf"]) == ("in_progress", 1, "0-paused")
    assert jobs.life.clip(job, 2, 50, 10, shelf="1-next", attempt=1) and jobs.row(job)["shelf"] == "1-next"


def test_a_heart_tells_what_has_changed_and_buries(jobs):
    worker, other = _joined(jobs), _joined(jobs)
    job, doing, beats = admit(jobs).id, {}, []
    jobs.life.start(job, worker="dead", attempt=0)
    heart = Heart(
        worker,
        jobs.life,
        told=lambda: ("ready", 1, dict(doing)),
        max_tries=3,
        beat=lambda: beats.append(1),
        every=0.01,
    )
    heart.start()
    _until(lambda: jobs.row(job)["status"] == "queued" and other.state() == ("ready", 1))
    doing["x"] = Progress("x", "in_progress")
    _until(lambda: other.doing() == doing and len(beats) > 2)
    heart.close()
    assert other.state() == ("loading", 0)


def test_a_front_tells_what_others_do(tmp_path):
    """Two views of one database: what the one does reaches a subscriber of the other, whole and in order."""
    here, elsewhere = open_jobs(tmp_path), open_jobs(tmp_path)
    others = Others(here, Crew(here.database, works=False, weights="w"))
    others.start()
    job = admit(here).id
    doing = Progress(job, "in_progress", phase="denoising", clip=1, clips=2)
    worker = Crew(elsewhere.database, works=True, weights="w")
    worker.join()

    async def follow():
        found = []
        async for each in here.subscribe(job):
            if isinstance(each, JobEvent):
                found.append((each.number, each.kind))
            if found == [(1, "queued")] and isinstance(each, Progress):
                elsewhere.life.start(job, worker=worker.name)
                worker.tell("ready", 0, {job: doing})
            elif each == doing:
                finish(elsewhere, job)
                elsewhere.life.requeue(job, "drain")  # has ended: nothing
        return found

    told = asyncio.run(asyncio.wait_for(follow(), 20))
    assert told == [(1, "queued"), (2, "started"), (3, "clip"), (4, "completed")]
    assert here.state().state == "ready"

    async def until_gone():
        return [each.kind async for each in here.subscribe(job, 3) if isinstance(each, JobEvent)]

    assert asyncio.run(asyncio.wait_for(until_gone(), 20)) == ["completed"]
    others.drain(0)
    assert here.state().state == "draining" and worker.lost() == []
    here.close()
    elsewhere.close()


def test_a_removal_elsewhere_is_told(tmp_path):
    here, elsewhere = open_jobs(tmp_path), open_jobs(tmp_path)
    others = Others(here, Crew(here.database, works=False, weights="w"))
    others.start()
    job = admit(here).id

    async def follow():
        found = []
        async for each in here.subscribe(job):
            if isinstance(each, JobEvent):
                found.append((each.number, each.kind))
                await asyncio.to_thread(elsewhere.delete, "anna", job)
        return found

    assert asyncio.run(asyncio.wait_for(follow(), 20)) == [(1, "queued"), (2, "deleted")]
    others.close()
    here.close()
    elsewhere.close()


def test_tables_of_an_older_version_get_what_they_lack(tmp_path):
    jobs = open_jobs(tmp_path)
    job = admit(jobs).id
    with jobs.database.writing() as connection:
        connection.exec_driver_sql("ALTER TABLE jobs DROP COLUMN shelf")
    jobs.close()
    again = Database(url_of(tmp_path))
    with again.reading() as connection:
        assert connection.exec_driver_sql("SELECT id, shelf FROM jobs").all() == [(job, None)]
    again.close()


def _until(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "took too long"
        time.sleep(0.02)
