"""Jobs as durable workflows of DBOS: a try of a job a workflow, a clip a step. A step that was recorded is not made
again.

A workflow is begun once and never resumed: DBOS would hand a resumed one to any process that shares its database. What
is put back ends its workflow, and its next try begins behind the last finished clip.

Which job comes next is not the library's business: its queues order by what is known at admission, and whose turn it
is depends on who was served meanwhile. A workflow begins when its job's turn has come.

The library is one for a process, and so is this.
"""

import logging
from contextlib import nullcontext
from pathlib import Path
from typing import Protocol

from dbos import DBOS, SetWorkflowID

from talkverse_jax.serve.jobs import postgres

_SCHEMA = "talkverse_jax_workflows"  # of Postgres, beside the jobs' tables
_OVER = ["SUCCESS", "ERROR", "CANCELLED"]


class StepMaker(Protocol):
    """Whoever makes clips in this process. Each method may take days, and returns when it is done. A job is in a try,
    by its number."""

    def make_clip(self, job: str, attempt: int, clip: int) -> bool:
        """Have a clip on the disk, numbered from 1; whether to go on with the job."""
        ...

    def finish(self, job: str, attempt: int) -> bool:
        """Have the finished video, and what belongs to it, on the disk."""
        ...

    def left(self, job: str, attempt: int) -> None:
        """The try's workflow runs no more in this process."""
        ...


class Leaving(BaseException):
    """The process ends: the step is not recorded, and comes again."""


_maker: StepMaker | None = None


def _the_maker() -> StepMaker:
    assert _maker is not None, "no flow has begun"
    return _maker


@DBOS.step()
def make_clip(job: str, attempt: int, clip: int) -> bool:
    return _the_maker().make_clip(job, attempt, clip)


@DBOS.step()
def finish(job: str, attempt: int) -> bool:
    return _the_maker().finish(job, attempt)


@DBOS.workflow(max_recovery_attempts=None)
def make_job(job: str, attempt: int, done: int, clips: int) -> None:
    """A job from its first missing clip to the finished video, or until it is cancelled or put back."""
    try:
        for clip in range(done + 1, clips + 1):
            if not make_clip(job, attempt, clip):
                return
        finish(job, attempt)
    except Leaving:
        raise
    except Exception:
        logging.getLogger("talkverse_jax.serve").exception("%s: its workflow failed", job)
        raise
    finally:
        _the_maker().left(job, attempt)


class Flow:
    """The workflows of a database.

    Args:
      url: of the database.
      here: names this process among all that ever were: it goes on with nothing that others have left.
    """

    def __init__(self, url: str, maker: StepMaker, here: str):
        global _maker
        _maker = maker
        shared = not url.startswith("sqlite:")
        if shared:
            url = postgres.check_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
        DBOS(
            config={
                "name": "talkverse_jax",
                "system_database_url": url,
                "dbos_system_schema": _SCHEMA,
                "executor_id": here,
                "application_version": "1",
                "log_level": "CRITICAL",
            }
        )
        with postgres.alone(url) if shared else nullcontext():  # it makes its tables
            DBOS.launch()

    def run(self, job: str, attempt: int, done: int, clips: int) -> None:
        """Begin the workflow of a try; those that are over, and those of earlier tries, are forgotten."""
        over = [each.workflow_id for each in DBOS.list_workflows(status=_OVER)]
        if over := [*over, job, *(f"{job}/{earlier}" for earlier in range(attempt))]:
            DBOS.delete_workflows(over)
        with SetWorkflowID(f"{job}/{attempt}"):
            DBOS.start_workflow(make_job, job, attempt, done, clips)

    def close(self) -> None:
        """Have done with the library; workflows stay as they are."""
        DBOS.destroy(workflow_completion_timeout_sec=0)


def flow_url(folder: Path) -> str:
    """Of the file of SQLite in a folder."""
    return f"sqlite:///{folder.absolute() / 'workflows.sqlite'}"
