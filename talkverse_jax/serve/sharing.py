"""The jobs of a database and of a folder or bucket that fronts and workers share, as one of them has them."""

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from talkverse_jax.core.errors import UserError
from talkverse_jax.core.lock import locked
from talkverse_jax.pipeline.machine import Weights
from talkverse_jax.serve.jobs.crew import digest_of
from talkverse_jax.serve.jobs.database import Database
from talkverse_jax.serve.jobs.depot import Depot
from talkverse_jax.serve.jobs.jobs import Jobs
from talkverse_jax.serve.options import ServeOptions
from talkverse_jax.weights import manifest

_PREFIX = "talkverse_jax_serve_"
_YOUNG = 60.0  # seconds in which a folder may have no lock yet


@contextmanager
def shared_jobs(options: ServeOptions) -> Iterator[Jobs]:
    """The jobs that others have as well, while the block lasts.

    Raises:
      UserError: database or files cannot be used.
    """
    assert options.database
    with scratch_folder() as scratch:
        depot = Depot(options.data_dir, scratch)
        jobs = Jobs(options, depot, Database(options.database))
        try:
            yield jobs
        finally:
            jobs.close()


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A folder on a disk of this machine (TMPDIR) while the block lasts; those of processes that were killed go."""
    parent = Path(tempfile.gettempdir())
    for other in parent.glob(f"{_PREFIX}*"):
        with suppress(OSError, UserError):
            if other.stat().st_uid == os.getuid() and time.time() - other.stat().st_mtime > _YOUNG:
                with locked(other / "lock", "is in use"):
                    shutil.rmtree(other, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
    try:
        with locked(folder / "lock", "is in use"):
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def digest_of_weights(family: str, weights: Weights) -> str:
    """What tells the models from others."""
    trained = [(Path(name).name, os.path.getsize(Path(name).expanduser())) for name in weights.lora_ckpt]
    laid_over = (trained, weights.lora_strength, weights.lora_rank, weights.lora_alpha)
    return digest_of(family, manifest.identity(weights.weights), laid_over)
