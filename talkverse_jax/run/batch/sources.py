"""The files that items are made of: that they are files, and which of them stand where videos go."""

import dataclasses
import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from talkverse_jax.core.errors import UserError
from talkverse_jax.core.files import is_remote
from talkverse_jax.core.paths import expanded, identity_of, on_disk
from talkverse_jax.pipeline.job import Job
from talkverse_jax.run.batch.items import Item


def check_sources(job: Job) -> None:
    """Make sure, before anything is opened, that what a job names are files: a pipe would wait for ever.

    Raises:
      UserError: one is none.
    """
    for path in _paths(job):
        if is_remote(path):
            raise UserError(f"{path}: an address; a batch reads files on a disk, so fetch it first")
        try:
            mode = os.stat(on_disk(expanded(path))).st_mode
        except (OSError, ValueError):
            continue  # whoever opens it says what is amiss
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise UserError(f"{path}: a pipe or a device; give a file")


class Sources:
    """All files that a list reads, told apart from others by what they are and not by their names."""

    def __init__(self, items: Iterable[Item]):
        self._readers: dict[tuple[int, int], str] = {}
        for item in items:
            for path in _paths(item.job) if item.job else ():
                if (identity := identity_of(path)) is not None:
                    self._readers.setdefault(identity, item.id)

    def reader(self, file: Path | None) -> str | None:
        """The first item that reads a file, by its id."""
        identity = None if file is None else identity_of(file)
        return None if identity is None else self._readers.get(identity)


def _paths(job: Job) -> Iterator[str]:
    for field in dataclasses.fields(job.files):
        if field.metadata["metavar"] == "FILE":
            value = getattr(job.files, field.name)
            yield from (value,) if isinstance(value, str) else value or ()
