"""Jobs in states that only a worker brings about, without one."""

import hashlib
from pathlib import Path

from talkverse_jax.media.video_writer import partial_file
from talkverse_jax.serve.jobs.job import Submission, new_id
from talkverse_jax.serve.jobs.jobs import Jobs

SETTINGS = {"base_seed": 7, "sample_steps": 4, "size_bucket": "tiny-128"}


def waiting(jobs: Jobs, owner: str = "anonymous", clips: int = 2) -> str:
    """The id of a job that waits."""
    job = new_id()
    folder = jobs.folder(job)
    (folder / "image").write_bytes(b"x")
    jobs.admit(
        Submission(
            id=job,
            owner=owner,
            folder=folder,
            family="talkverse",
            model="shown",
            files={"image": "image"},
            settings=SETTINGS,
            inputs={},
            prompt="She talks.",
            size="128x128",
            num_frames=121,
            clips=clips,
            seconds=4.84,
        )
    )
    return job


def completed(jobs: Jobs, content: bytes = b"0123456789", owner: str = "anonymous") -> str:
    """The id of a job whose files all hold that."""
    job = waiting(jobs, owner)
    jobs.life.start(job)
    for number in (1, 2):
        jobs.life.clip(job, number, 60 * number, 4)
    complete(jobs, job, content)
    return job


def complete(jobs: Jobs, job: str, content: bytes) -> None:
    """End a job."""
    folder = jobs.folders.of(job)
    variants = {}
    for name, file in (("video", "video.mp4"), ("thumbnail", "thumbnail.webp"), ("spritesheet", "spritesheet.jpg")):
        (folder / file).write_bytes(content)
        told = {"size": len(content), "etag": hashlib.sha256(content).hexdigest(), "modified": 1_700_000_000.0}
        variants[name] = told
    jobs.life.complete(job, {"denoising": 1.0}, variants, 3 * len(content))


def write_partial(jobs: Jobs, job: str, content: bytes) -> Path:
    """Write on at a job's unfinished file."""
    path = partial_file(jobs.folders.of(job) / "video.mp4")
    with path.open("ab") as file:
        file.write(content)
    return path
