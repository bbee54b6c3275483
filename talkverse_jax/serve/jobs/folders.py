"""The files of jobs: `uploads/ID` while a request is being checked, `jobs/ID` when it is accepted, `gone/ID` while it
is being removed. Imports no JAX."""

import os
import shutil
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from talkverse_jax.core.paths import sync
from talkverse_jax.media.video_writer import before_file, partial_file
from talkverse_jax.serve.jobs.job import Playable, StoredFile
from talkverse_jax.serve.jobs.room import bytes_in

VIDEO = "video.mp4"
FRAGMENTS = "fragments.mp4"  # what was played before the video had its name
VARIANTS = {"video": VIDEO, "thumbnail": "thumbnail.webp", "spritesheet": "spritesheet.jpg"}


@dataclass(frozen=True)
class LocalFile:
    """A file on a disk of this machine."""

    path: Path

    def open(self) -> BinaryIO:
        return self.path.open("rb")


class Folders:
    """Where the server's files are; only its user may look. Jobs are made where they lie."""

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

    def begin(self, job: str, kept: str | None, shelf: str | None) -> Path:
        """The folder in which a job is to be made, with its inputs and what counts of it.

        Args:
          kept: the shelf of what counts, as the job's row says.
          shelf: of this try.
        """
        return self.of(job)

    def keep(self, job: str, shelf: str, inputs: Collection[str]) -> None:
        """Have all that a try has made of a job where a later one finds it.

        Args:
          inputs: names of files that were not made.
        """

    def done(self, job: str, shelf: str | None) -> None:
        """A try is over."""

    def stored(self, job: str, shelf: str | None, name: str) -> StoredFile:
        """A file of a job, which may be gone."""
        return LocalFile(self.of(job) / name)

    def size(self, job: str) -> int:
        """Bytes of all files of a job."""
        return bytes_in(self.of(job))

    def playable(self, row: Mapping[Any, Any]) -> Playable | None:
        """What can be played of a job by now; None while nothing can.

        Args:
          row: of the job.
        """
        video = self.of(row["id"]) / VIDEO
        if row["clips_done"] == row["submission"]["clips"] and video.exists():
            return Playable(LocalFile(video), video.stat().st_size, True, True)
        sizes = {path: path.stat().st_size for path in (partial_file(video), before_file(video)) if path.exists()}
        if not sizes or not row["playable"]:
            return None
        path = max(sizes, key=lambda each: sizes[each])
        return Playable(LocalFile(path), min(sizes[path], row["playable"]), row["status"] == "failed")

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
