"""What the front sees: admission, lists, keys, the end; on a database and folders alone."""

import time

import pytest

from talkverse_jax.serve.jobs.job import Deleted, Refused
from tests.serve.jobs.submissions import admit, finish, open_jobs, submission


@pytest.fixture
def jobs(tmp_path):
    made = open_jobs(tmp_path / "data")
    yield made
    made.close()


def test_an_accepted_job_is_on_the_disk(jobs, tmp_path):
    record = admit(jobs, notices=("cut",), user="u")
    again = open_jobs(tmp_path / "data")
    assert again.get("anna", record.id) == record
    assert (record.submission.folder / "image").read_bytes() == b"picture"
    assert [(event.number, event.kind) for event in again.events(record.id)] == [(1, "queued"), (2, "notice")]
    assert again.events(record.id, 1)[0].data == {"message": "cut"}
    assert list(jobs.folders.uploads.iterdir()) == []
    assert jobs.folders.root.stat().st_mode & 0o777 == 0o700


def test_another_owner_sees_nothing(jobs):
    record = admit(jobs)
    assert jobs.get("otto", record.id) is None
    assert jobs.cancel("otto", record.id) is None
    assert not jobs.delete("otto", record.id)
    assert jobs.list("otto", 20) == ([], False)


def test_lists_go_on_behind_a_job(jobs):
    ids = [admit(jobs).id for _ in range(5)]
    admit(jobs, "otto")
    page, more = jobs.list("anna", 2)
    assert ([each.id for each in page], more) == (ids[:2:-1], True)
    page, more = jobs.list("anna", 4, after=page[-1].id)
    assert ([each.id for each in page], more) == (ids[2::-1], False)
    page, more = jobs.list("anna", 3, "asc", after=ids[0])
    assert ([each.id for each in page], more) == (ids[1:4], True)
    with pytest.raises(KeyError):
        jobs.list("anna", 2, after="video_" + "0" * 32)
    with pytest.raises(KeyError):
        jobs.list("otto", 2, after=ids[0])


@pytest.mark.parametrize(
    "options, code, status",
    [
        (dict(max_queue=2), "queue_full", 429),
        (dict(max_queue_per_key=2), "too_many_jobs", 429),
        (dict(max_disk_bytes=5_000_000), "quota_exceeded", 507),
        (dict(min_free_bytes=1 << 62), "disk_full", 507),
    ],
)
def test_a_job_for_which_there_is_no_room_is_refused(tmp_path, options, code, status):
    jobs = open_jobs(tmp_path, **{k: v for k, v in options.items() if k != "min_free_bytes"})
    [admit(jobs) for _ in range(2)]
    object.__setattr__(jobs.limits, "min_free_bytes", options.get("min_free_bytes", 0))
    asked = submission(jobs)
    with pytest.raises(Refused) as refused:
        jobs.admit(asked)
    assert (refused.value.code, refused.value.status) == (code, status)
    jobs.refuse(asked.id)
    assert list(jobs.folders.uploads.iterdir()) == [] and len(list(jobs.folders.jobs.iterdir())) == 2
    if code != "quota_exceeded":  # which counts the new one
        with pytest.raises(Refused):
            jobs.check_room("anna")


def test_what_a_failed_job_has_left_counts(tmp_path):
    """Also where the server was killed before it was weighed."""
    jobs = open_jobs(tmp_path, max_disk_bytes=3_000_000)
    record = admit(jobs)
    (jobs.folders.of(record.id) / "video.partial.mp4").write_bytes(bytes(1_500_000))
    jobs.cancel("anna", record.id)
    jobs.admit(asked := submission(jobs))
    jobs.delete("anna", asked.id)
    jobs.recover()
    with pytest.raises(Refused) as refused:
        jobs.admit(submission(jobs))
    assert refused.value.code == "quota_exceeded"


def test_a_repeated_request_makes_one_job(jobs):
    assert not jobs.reserve("anna", "k")
    with pytest.raises(Refused, match="is being served") as refused:
        jobs.reserve("anna", "k")
    assert refused.value.retry_after == 1
    assert not jobs.reserve("otto", "k")
    record = admit(jobs, key="k", digest="d")
    assert jobs.reserve("anna", "k")
    assert jobs.idempotent("anna", "k", "d") == record
    assert jobs.idempotent("anna", "other", "d") is None
    with pytest.raises(Refused) as refused:
        jobs.idempotent("anna", "k", "e")
    assert refused.value.code == "idempotency_key_reused"
    jobs.delete("anna", record.id)
    assert jobs.idempotent("anna", "k", "d") == Deleted(record.id)


def test_a_refused_request_gives_its_key_back(jobs):
    jobs.reserve("anna", "k")
    jobs.release("anna", "k")
    assert not jobs.reserve("anna", "k")


def test_a_job_is_cancelled_once(jobs):
    record = admit(jobs)
    cancelled = jobs.cancel("anna", record.id)
    assert cancelled.status == "failed" and cancelled.failure.code == "cancelled"
    assert cancelled.expires_at - cancelled.completed_at == 168 * 3600
    with pytest.raises(Refused) as refused:
        jobs.cancel("anna", record.id)
    assert refused.value.code == "video_ended"
    assert jobs.events(record.id)[-1].kind == "failed"


def test_a_deleted_job_leaves_nothing(jobs):
    record = admit(jobs)
    assert jobs.delete("anna", record.id)
    assert jobs.get("anna", record.id) is None and jobs.events(record.id) == []
    assert list(jobs.folders.jobs.iterdir()) == []


def test_a_finished_job_has_files(jobs):
    record = admit(jobs)
    assert jobs.video(record.id) is None and jobs.playable(record.id) is None
    finish(jobs, record.id)
    assert jobs.get("anna", record.id).status == "completed"
    file = jobs.video(record.id, "thumbnail")
    assert (file.file.open().read(), file.size, file.etag) == (b"made", 4, "0" * 64)
    assert jobs.playable(record.id).ended
    assert jobs.progress(record.id).progress == 100


def test_old_jobs_go(tmp_path):
    jobs = open_jobs(tmp_path, max_jobs=2)
    ids = [admit(jobs).id for _ in range(4)]
    for job in ids[:3]:
        finish(jobs, job)
    finish(jobs, admit(jobs, "otto").id)
    jobs.retain()
    assert [each.id for each in jobs.list("anna", 20, "asc")[0]] == ids[1:]
    assert not jobs.folders.of(ids[0]).exists()
    assert len(jobs.list("otto", 20)[0]) == 1


def test_jobs_are_kept_for_hours(tmp_path):
    jobs = open_jobs(tmp_path, keep_hours=1e-5)
    done, waits = admit(jobs, key="k", digest="d").id, admit(jobs).id
    finish(jobs, done)
    time.sleep(0.05)
    jobs.retain()
    assert [each.id for each in jobs.list("anna", 20)[0]] == [waits]
    assert jobs.idempotent("anna", "k", "d") == Deleted(done)  # for a day


def test_positions_follow_the_turns(jobs):
    anna = [admit(jobs).id for _ in range(3)]
    otto = admit(jobs, "otto").id
    assert [jobs.progress(job).queue_position for job in (*anna, otto)] == [1, 3, 4, 2]
    assert jobs.events(otto)[0].data == {"queue_position": 2}
    jobs.life.start(anna[0])
    assert [jobs.progress(job).queue_position for job in (*anna, otto)] == [None, 2, 3, 1]
    assert (jobs.state().queue_length, jobs.state().running) == (3, 1)


def test_a_killed_server_leaves_nothing_but_jobs(jobs, tmp_path):
    works, waits = admit(jobs).id, admit(jobs).id
    jobs.life.start(works)
    submission(jobs)  # a request that was being checked
    (jobs.folders.jobs / "video_of_no_row").mkdir()
    (jobs.folders.gone / "video_half_removed").mkdir()
    again = open_jobs(tmp_path / "data")
    again.recover()
    assert [again.get("anna", job).status for job in (works, waits)] == ["queued", "queued"]
    assert again.get("anna", works).attempt == 1
    assert again.events(works)[-1].data == {"reason": "restart"}
    assert sorted(path.name for path in jobs.folders.jobs.iterdir()) == sorted([works, waits])
    assert not list(jobs.folders.uploads.iterdir()) and not list(jobs.folders.gone.iterdir())
