"""Jobs for tests, of files that nobody looks into."""

from talkverse_jax.core.paths import new_folder
from talkverse_jax.serve.jobs.database import Database, url_of
from talkverse_jax.serve.jobs.job import Record, Submission, new_id
from talkverse_jax.serve.jobs.jobs import Jobs
from talkverse_jax.serve.options import ServeOptions


def open_jobs(folder, folders=None, **options) -> Jobs:
    """The jobs of a folder.

    Args:
      folders: of the files, where they lie elsewhere.
    """
    database = Database(url_of(new_folder(folder)))
    return Jobs(ServeOptions(data_dir=str(folder), min_free_bytes=0, **options), folders, database)


def submission(jobs: Jobs, owner: str = "anna", **values) -> Submission:
    """A job of two clips, with its file in place."""
    job = new_id()
    folder = jobs.folder(job)
    (folder / "image").write_bytes(b"picture")
    usual = dict(
        family="second",
        model="second",
        files={"image": "image"},
        settings={"base_seed": 3},
        inputs={},
        prompt="A person talks.",
        size="64x64",
        num_frames=50,
        clips=2,
        seconds=2.0,
    )
    return Submission(id=job, owner=owner, folder=folder, **{**usual, **values})


def admit(jobs: Jobs, owner: str = "anna", **values) -> Record:
    """An accepted job."""
    return jobs.admit(submission(jobs, owner, **values))


def finish(jobs: Jobs, job: str) -> None:
    """Make a waiting job's video, of no frames."""
    jobs.life.start(job)
    jobs.life.clip(job, 2, 50, 9)
    variants = {}
    for name, file in (("video", "video.mp4"), ("thumbnail", "thumbnail.webp"), ("spritesheet", "spritesheet.jpg")):
        (jobs.folders.of(job) / file).write_bytes(b"made")
        variants[name] = {"size": 4, "etag": "0" * 64, "modified": 1.0}
    jobs.life.complete(job, {"total": 1.0}, variants, 11)
