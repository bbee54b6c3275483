"""The events of a job's life: without gaps, each once."""

from talkverse_jax.serve.jobs.job import JobFailure
from tests.serve.jobs.submissions import admit, finish, open_jobs


def _kinds(jobs, job):
    events = jobs.events(job)
    assert [event.number for event in events] == list(range(1, len(events) + 1))
    return [event.kind for event in events]


def test_a_clip_is_told_once(tmp_path):
    jobs = open_jobs(tmp_path)
    job = admit(jobs).id
    assert jobs.life.start(job) and not jobs.life.start(job)
    assert jobs.life.clip(job, 1, 25, 1000)
    assert jobs.life.requeue(job, "worker_died", died=True)
    assert jobs.life.start(job)
    assert not jobs.life.clip(job, 1, 25, 1000)
    assert jobs.life.clip(job, 2, 50, 2000)
    finish(jobs, job)
    assert _kinds(jobs, job) == ["queued", "started", "clip", "requeued", "started", "clip", "completed"]
    assert jobs.events(job)[5].data == {"clip": 2, "clips": 2, "frames": 50, "seconds": 2.0}
    assert jobs.events(job)[4].data == {"attempt": 1}
    record = jobs.get("anna", job)
    assert (record.clips_done, record.frames_done, record.attempt) == (2, 50, 1)


def test_what_has_ended_changes_no_more(tmp_path):
    jobs = open_jobs(tmp_path)
    job = admit(jobs).id
    jobs.life.start(job)
    jobs.life.fail(job, JobFailure("not_finite", "no numbers"))
    assert not jobs.life.clip(job, 1, 25, 1)
    assert not jobs.life.requeue(job, "restart")
    assert not jobs.life.complete(job, {}, {}, 0)
    assert not jobs.life.notice(job, "late")
    assert _kinds(jobs, job) == ["queued", "started", "failed"]
    assert jobs.get("anna", job).failure == JobFailure("not_finite", "no numbers")


def test_a_notice_is_kept_once(tmp_path):
    jobs = open_jobs(tmp_path)
    job = admit(jobs, notices=("cut",)).id
    assert jobs.life.notice(job, "padded")
    assert not jobs.life.notice(job, "cut") and not jobs.life.notice(job, "padded")
    assert jobs.get("anna", job).notices == ("cut", "padded")


def test_deaths_count_between_clips(tmp_path):
    jobs = open_jobs(tmp_path)
    job = admit(jobs).id

    def died():
        jobs.life.start(job)
        jobs.life.requeue(job, "worker_died", died=True)
        return jobs.life.deaths(job)

    assert [died(), died()] == [1, 2]
    jobs.life.start(job)
    jobs.life.clip(job, 1, 25, 1)
    jobs.life.requeue(job, "drain")
    assert jobs.life.deaths(job) == 0
