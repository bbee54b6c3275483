"""The files of jobs: `uploads/ID` while a request is being checked, `jobs/ID` when it is accepted, `gone/ID` while it
is being removed. Imports no JAX."""

import os
import shutil
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from talkverse_jax.core.paths import sync

VIDEO = "video.mp4"
VARIANTS = {"video": VIDEO, "thumbnail": "thumbnail.webp", "spritesheet": "spritesheet.jpg"}


class Folders:
    """Where the server's files are; only its user may look."""

    def __init__(self, root: Path):
        self.root = root
        self.uploads, self.jobs, self.gone = (root / name for name in ("uploads", "jobs", "gone"))
        root.mkdir(parents=True, exist_ok=True)
        root.chmod(0o700)
        for folder in (self.uploads, self.jobs, self.gone):
            folder.mkdir(exist_ok=True)

    def new(self, job: str) -> Path:
        """For the files of a request."""
        folder = self.uploads / job
        folder.mkdir()
        return folder

    def of(self, job: str) -> Path:
        """A job's files."""
        return self.jobs / job

    def accept(self, job: str) -> None:
        """Make a request's folder the job's; all that is in it is on the disk then."""
        folder = self.uploads / job
        for inside, _, names in os.walk(folder):
            for name in names:
                sync(Path(inside, name))
            sync(Path(inside))
        os.replace(folder, self.of(job))
        sync(self.jobs)

    def refuse(self, job: str) -> None:
        """Remove what a request has left."""
        shutil.rmtree(self.uploads / job, ignore_errors=True)

    def remove(self, job: str) -> None:
        """Remove a job's files; the name goes at once."""
        with suppress(FileNotFoundError):
            os.replace(self.of(job), self.gone / job)
        shutil.rmtree(self.gone / job, ignore_errors=True)

    def tidy(self, known: Collection[str]) -> None:
        """Remove what a killed server has left: all but the folders of jobs that are known."""
        for folder in (self.uploads, self.gone):
            for each in folder.iterdir():
                shutil.rmtree(each, ignore_errors=True)
        for each in self.jobs.iterdir():
            if each.name not in known:
                shutil.rmtree(each, ignore_errors=True)
