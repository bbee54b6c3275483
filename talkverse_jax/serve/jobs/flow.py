"""Jobs as durable workflows of DBOS: a job a workflow, a clip a step. A step that was recorded is not made again.

Which job comes next is not the library's business: its queues order by what is known at admission, and whose turn it
is depends on who was served meanwhile. A workflow begins, or goes on, when its job's turn has come.

The library is one for a process, and so is this.
"""

import logging
from pathlib import Path
from typing import Protocol

from dbos import DBOS, SetWorkflowID

_OVER = ["SUCCESS", "ERROR", "CANCELLED"]


class StepMaker(Protocol):
    """Whoever makes clips in this process. Each method may take days, and returns when it is done."""

    def make_clip(self, job: str, clip: int) -> bool:
        """Have a clip on the disk, numbered from 1; whether to go on with the job."""
        ...

    def finish(self, job: str) -> bool:
        """Have the finished video, and what belongs to it, on the disk."""
        ...

    def left(self, job: str) -> None:
        """The job's workflow runs no more in this process."""
        ...


class Leaving(BaseException):
    """The process ends: the step is not recorded, and comes again."""


_maker: StepMaker | None = None


def _the_maker() -> StepMaker:
    assert _maker is not None, "no flow has begun"
    return _maker


@DBOS.step()
def make_clip(job: str, clip: int) -> bool:
    return _the_maker().make_clip(job, clip)


@DBOS.step()
def finish(job: str) -> bool:
    return _the_maker().finish(job)


@DBOS.workflow(max_recovery_attempts=None)
def make_job(job: str, clips: int) -> None:
    """A job from its first clip to the finished video, or until it is cancelled."""
    try:
        for clip in range(1, clips + 1):
            if not make_clip(job, clip):
                return
        finish(job)
    except Leaving:
        raise
    except Exception:
        logging.getLogger("talkverse_jax.serve").exception("%s: its workflow failed", job)
        raise
    finally:
        _the_maker().left(job)


class Flow:
    """The workflows of a database.

    Args:
      url: of the database.
      here: names this process among all that ever were: what others have left goes on when it is asked for, and not
        by itself.
    """

    def __init__(self, url: str, maker: StepMaker, here: str):
        global _maker
        _maker = maker
        DBOS(
            config={
                "name": "talkverse_jax",
                "system_database_url": url,
                "executor_id": here,
                "application_version": "1",
                "log_level": "CRITICAL",
            }
        )
        DBOS.launch()

    def run(self, job: str, clips: int) -> None:
        """Begin a job's workflow, or go on with it; those that are over are forgotten."""
        if over := [each.workflow_id for each in DBOS.list_workflows(status=_OVER)]:
            DBOS.delete_workflows(over)
        if DBOS.get_workflow_status(job) is None:
            with SetWorkflowID(job):
                DBOS.start_workflow(make_job, job, clips)
        else:
            DBOS.resume_workflow(job)

    def close(self) -> None:
        """Have done with the library; workflows stay as they are."""
        DBOS.destroy(workflow_completion_timeout_sec=0)


def flow_url(folder: Path) -> str:
    """Of the file of SQLite in a folder."""
    return f"sqlite:///{folder.absolute() / 'workflows.sqlite'}"
