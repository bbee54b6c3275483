"""The steps of the jobs' workflows: each has the worker asked for something, and writes down what came of it.

A job is a workflow, also where its steps are done with others': each step is recorded for its own job, so that exactly
what a job lacks is made again, whoever shares its pack after a restart.
"""

import logging
from collections.abc import Callable
from typing import Any

from talkverse_jax.serve.jobs.books import Books
from talkverse_jax.serve.jobs.job import ENDED, JobFailure
from talkverse_jax.serve.jobs.jobs import Jobs, Row
from talkverse_jax.serve.jobs.seats import Answer, PackSeats

LOG = logging.getLogger("talkverse_jax.serve")


class Steps:
    """Makes clips, a step at a time, in the threads of the workflows (see `flow.StepMaker`).

    Args:
      draining: whether no further clip is begun.
      over: is called when a job's workflow runs no more, with its id.
    """

    def __init__(
        self, jobs: Jobs, seats: PackSeats, books: Books, draining: Callable[[], bool], over: Callable[[str], None]
    ):
        self._jobs, self._seats, self._books = jobs, seats, books
        self._draining, self._over = draining, over

    def make_clip(self, job: str, clip: int) -> bool:
        while (row := self._row_in_turn(job)) is not None:
            if row["clips_done"] >= clip:
                return True
            answer = self._ask(job, row, clip)
            if answer["say"] == "clip":
                self._books.surely(self._jobs.life.clip, job, clip, answer["frames"], answer["playable"])
                if (seat := self._seats.of(job)) is not None:
                    seat.alone = False
            else:
                self._not_made(job, answer)
        return False

    def finish(self, job: str) -> bool:
        while (row := self._row_in_turn(job)) is not None:
            answer = self._ask(job, row, None)
            if answer["say"] == "finished":
                for notice in answer["notices"]:
                    self._books.surely(self._jobs.life.notice, job, notice)
                made = (answer["timings"], answer["variants"], answer["bytes"])
                self._books.surely(self._jobs.life.complete, job, *made)
                return True
            self._not_made(job, answer)
        return False

    def left(self, job: str) -> None:
        self._over(job)
        status = self._books.status(job)
        if status == "in_progress" and not self._seats.closing:  # its workflow could not be recorded
            self._books.put_back(job, "disk_full")
        elif status != "queued":  # then it has no seat, or a new one
            self._seats.free(job)
        if status is None:
            self._jobs.folders.remove(job)
        elif status == "failed":
            self._books.surely(self._jobs.weigh, job)
        LOG.info("%s %s", job, status or "deleted")

    def _row_in_turn(self, job: str) -> Row | None:
        """The job's row, when it has a seat; None of one that has ended.

        Raises:
          Leaving: the process ends.
        """
        if not self._seats.wait_for(job, lambda: self._books.has_ended(job)):
            return None
        row = self._jobs.row(job)
        return None if row is None or row["status"] in ENDED else row

    def _ask(self, job: str, row: Row, clip: int | None) -> Answer:
        submission: dict[str, Any] = row["submission"]
        request = {
            "job": job,
            "folder": str(self._jobs.folders.of(job)),
            "files": submission["files"],
            "settings": submission["settings"],
            "clip": clip,
        }
        return self._seats.ask(job, request)

    def _not_made(self, job: str, answer: Answer) -> None:
        """A clip was not made: the job fails, or waits for another turn."""
        if answer["say"] == "failed":
            LOG.error("%s failed: %s: %s\n%s", job, answer["code"], answer["message"], answer["trace"])
            failure = JobFailure(answer["code"], answer["message"], answer["param"])
            self._books.surely(self._jobs.life.fail, job, failure)
        elif answer["say"] == "disk_full":
            self._books.put_back(job, "disk_full")
        elif answer["say"] == "stopped" and self._draining():
            self._books.put_back(job, "drain")
