"""Files of jobs in a folder that is shared, and in a bucket: of memory, which fsspec has."""

import uuid

import pytest

from talkverse_jax.core.errors import UserError
from talkverse_jax.serve.jobs.depot import Depot
from talkverse_jax.serve.jobs.folders import FRAGMENTS, VARIANTS
from talkverse_jax.serve.jobs.job import new_id
from tests.serve.jobs.submissions import admit, open_jobs


@pytest.fixture(params=["memory", "folder"])
def address(request, tmp_path):
    return f"memory://bucket-{uuid.uuid4()}" if request.param == "memory" else str(tmp_path / "shared")


@pytest.fixture
def depots(address, tmp_path):
    """A front's and two workers', with no disk in common."""
    return [Depot(address, tmp_path / f"scratch{number}") for number in range(3)]


def _accepted(depot) -> str:
    job = new_id()
    (depot.new(job) / "image").write_bytes(b"picture")
    depot.accept(job)
    return job


def _row(job, **values):
    usual = {"id": job, "status": "in_progress", "shelf": None, "playable": 0, "clips_done": 0}
    return usual | {"submission": {"clips": 3}} | values


def _names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_job_goes_on_elsewhere(depots):
    front, one, two = depots
    job = _accepted(front)
    assert not list(front.uploads.iterdir())
    folder = one.begin(job, None, "0-one")
    assert (folder / "image").read_bytes() == b"picture"
    (folder / "video.partial.mp4").write_bytes(b"clip")
    (folder / "video.partial.npz").write_bytes(b"state")
    (folder / ".video.lock").touch()
    one.keep(job, "0-one", {"image"})
    there = front.playable(_row(job, shelf="0-one", playable=4, clips_done=1))
    assert (there.file.open().read(), there.size, there.ended, there.finished) == (b"clip", 4, False, False)

    (folder / "video.partial.mp4").write_bytes(b"clip2")  # the row never says so
    one.keep(job, "0-one", {"image"})
    again = two.begin(job, "0-one", "1-two")
    assert _names(again) == ["image", "video.partial.mp4", "video.partial.npz"]
    assert (again / "video.partial.mp4").read_bytes() == b"clip2"

    for name in ("video.partial.npz", "video.partial.mp4"):
        (again / name).unlink()
    (again / FRAGMENTS).write_bytes(b"clip2clip3")
    for name in VARIANTS.values():
        (again / name).write_bytes(name.encode())
    two.keep(job, "1-two", {"image"})
    done = front.playable(_row(job, status="completed", shelf="1-two", variants={"video": {"size": 9}}))
    assert (done.file.open().read(), done.size, done.ended, done.finished) == (b"video.mp4", 9, True, True)
    assert front.stored(job, "1-two", "video.partial.mp4").open().read() == b"clip2clip3"
    two.done(job, "1-two")
    assert not again.exists()
    front.remove(job)
    with pytest.raises(FileNotFoundError):
        front.stored(job, "1-two", "video.mp4").open()


def test_what_has_not_changed_is_not_copied_again(depots, monkeypatch):
    front, one, _ = depots
    job = _accepted(front)
    folder, put = one.begin(job, None, "0-one"), []
    monkeypatch.setattr(one._store, "put", lambda file, name: put.append(name.rpartition("/")[2]))
    (folder / "video.partial.npz").write_bytes(b"state")
    (folder / "video.partial.mp4").write_bytes(b"clip")
    one.keep(job, "0-one", {"image"})
    (folder / "video.partial.mp4").write_bytes(b"clip2")
    one.keep(job, "0-one", {"image"})
    assert put == ["video.partial.mp4", "video.partial.npz", "video.partial.mp4"]


def test_what_is_of_no_job_goes_at_the_second_look(depots):
    front = depots[0]
    stray, known = _accepted(front), _accepted(front)
    front.tidy({known})
    assert front.stored(stray, "inputs", "image").open().read() == b"picture"
    front.tidy({known})
    with pytest.raises(FileNotFoundError):
        front.stored(stray, "inputs", "image").open()
    assert front.stored(known, "inputs", "image").open().read() == b"picture"


def test_jobs_are_admitted_and_removed(tmp_path, address):
    jobs = open_jobs(tmp_path / "data", folders=Depot(address, tmp_path / "scratch"))
    job = admit(jobs).id
    assert jobs.folders.stored(job, "inputs", "image").open().read() == b"picture"
    assert jobs.playable(job) is None
    jobs.delete("anna", job)
    with pytest.raises(FileNotFoundError):
        jobs.folders.stored(job, "inputs", "image").open()
    jobs.close()


def test_a_store_that_cannot_be_is_told(tmp_path):
    with pytest.raises(UserError, match="--data_dir nowhere://x: cannot be used"):
        Depot("nowhere://x", tmp_path)
