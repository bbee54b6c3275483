"""The steps of the jobs' workflows: each has the worker asked for something, and writes down what came of it.

A job is a workflow, also where its steps are done with others': each step is recorded for its own job, so that exactly
what a job lacks is made again, whoever shares its pack after a restart. What was made is kept before that is written
down.
"""

import logging
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from talkverse_jax.serve.jobs.books import Books
from talkverse_jax.serve.jobs.job import JobFailure
from talkverse_jax.serve.jobs.jobs import Jobs, Row
from talkverse_jax.serve.jobs.seats import Answer, PackSeat, PackSeats

LOG = logging.getLogger("talkverse_jax.serve")


class Steps:
    """Makes clips, a step at a time, in the threads of the workflows (see `flow.StepMaker`).

    Args:
      draining: whether no further clip is begun.
    """

    def __init__(self, jobs: Jobs, seats: PackSeats, books: Books, draining: Callable[[], bool]):
        self._jobs, self._seats, self._books, self._draining = jobs, seats, books, draining

    def make_clip(self, job: str, attempt: int, clip: int) -> bool:
        while (found := self._in_work(job, attempt)) is not None:
            seat, row = found
            if row["clips_done"] >= clip:
                return True
            answer = self._ask(seat, row, clip)
            if answer["say"] != "clip":
                self._not_made(seat, answer)
            elif self._keep(seat, row):
                told = {"shelf": seat.shelf, "attempt": attempt}
                self._books.surely(self._jobs.life.clip, job, clip, answer["frames"], answer["playable"], **told)
                seat.alone = False
        return False

    def finish(self, job: str, attempt: int) -> bool:
        while (found := self._in_work(job, attempt)) is not None:
            seat, row = found
            answer = self._ask(seat, row, None)
            if answer["say"] != "finished":
                self._not_made(seat, answer)
            elif self._keep(seat, row):
                for notice in answer["notices"]:
                    self._books.surely(self._jobs.life.notice, job, notice, attempt=attempt)
                made = (answer["timings"], answer["variants"], answer["bytes"])
                told = {"shelf": seat.shelf, "attempt": attempt}
                self._books.surely(self._jobs.life.complete, job, *made, **told)
                return True
        return False

    def left(self, job: str, attempt: int) -> None:
        seat = self._seats.of(job)
        row = self._books.surely(self._jobs.row, job)
        status = "deleted" if row is None else row["status"]
        if seat is not None and seat.attempt == attempt:
            if self._books.surely(self._books.row, seat) and not self._seats.closing:
                self._books.put_back(seat, "disk_full")  # its workflow could not be recorded
            self._seats.free(seat)
        try:
            self._jobs.folders.done(job, self._books.shelf(attempt))
            if row is None:
                self._jobs.folders.remove(job)
            elif status == "failed":
                self._jobs.weigh(job)
        except Exception as error:  # of many kinds, by the kind of store; `Jobs.retain` finds what is left
            LOG.error("%s: its files cannot be removed or weighed (%s)", job, error)
        LOG.info("%s %s", job, status)

    def _in_work(self, job: str, attempt: int) -> tuple[PackSeat, Row] | None:
        """The job's seat and its row; None where the try is over.

        Raises:
          Leaving: the process ends.
        """
        seat = self._seats.of(job)
        if seat is None or seat.attempt != attempt:
            return None
        row = self._books.surely(self._books.row, seat)
        return None if row is None else (seat, row)

    def _ask(self, seat: PackSeat, row: Row, clip: int | None) -> Answer:
        submission: dict[str, Any] = row["submission"]
        if seat.folder is None:
            begin = self._jobs.folders.begin
            seat.folder = self._books.stored(seat, lambda: begin(seat.job, row["shelf"], seat.shelf))
        if seat.folder is None:
            return {"say": "died"}
        request = {
            "job": seat.job,
            "folder": str(seat.folder),
            "files": submission["files"],
            "settings": submission["settings"],
            "clip": clip,
            "keep_fragments": seat.shelf is not None,
        }
        return self._seats.ask(seat, request)

    def _keep(self, seat: PackSeat, row: Row) -> bool:
        """Have what was made where another try finds it; whether this one goes on."""
        if (shelf := seat.shelf) is None:
            return True
        inputs = set(_names(row["submission"]["files"].values()))

        def keep() -> bool:
            self._jobs.folders.keep(seat.job, shelf, inputs)
            return True

        return self._books.stored(seat, keep) is not None

    def _not_made(self, seat: PackSeat, answer: Answer) -> None:
        """A clip was not made: the job fails, or waits for another turn."""
        if answer["say"] == "failed":
            LOG.error("%s failed: %s: %s\n%s", seat.job, answer["code"], answer["message"], answer["trace"])
            failure = JobFailure(answer["code"], answer["message"], answer["param"])
            self._books.surely(self._jobs.life.fail, seat.job, failure, attempt=seat.attempt)
        elif answer["say"] == "disk_full":
            self._books.put_back(seat, "disk_full")
        elif answer["say"] == "stopped" and self._draining():
            self._books.put_back(seat, "drain")


def _names(values: Iterable[Any]) -> Iterator[str]:
    """Of the files of a job, in lists or not."""
    for value in values:
        if isinstance(value, str):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from _names(value)
