"""The jobs in work in the process that makes them: clips that are asked for together are denoised as one batch.

A batch always has the number of places that the pipeline was loaded for. Those that no job has are empty, so that a
video has the bytes of `sample --batch --batch_size N`, whoever shares its steps. Jobs whose clips cannot be of one
batch, such as a first clip and a later one, come one behind the other.

What goes wrong with one job's files or its clip ends that job. What goes wrong in the steps of several may be one's:
each is then gone on with alone, behind its last finished clip. Out of memory is the batch's, and ends all that are in
it.
"""

from collections.abc import Container, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from talkverse_jax.core.errors import disk_is_full, out_of_memory
from talkverse_jax.pipeline.clip import Clip, State
from talkverse_jax.pipeline.events import Cancelled
from talkverse_jax.pipeline.pipeline import Pipeline
from talkverse_jax.serve.worker.failures import failure_at
from talkverse_jax.serve.worker.making import Making, Say, paths_of

Request = Mapping[str, Any]


class Pack:
    """Makes what is asked of jobs.

    Args:
      pipeline: for as many jobs as are made together.
      say: tells the front something.
      stopped: jobs that are to be left.
    """

    def __init__(self, pipeline: Pipeline, say: Say, stopped: Container[str]):
        self._pipeline, self._say, self._stopped = pipeline, say, stopped
        self._makings: dict[str, Making] = {}
        self._asked: dict[str, Request] = {}  # what has no answer yet, by job
        self._sharing: Sequence[str] = ()  # whose work is in hand

    def make(self, requests: Sequence[Request], jobs: Container[str]) -> None:
        """Do what is asked, of each job one thing, and answer each request as it is done.

        Args:
          jobs: in work; others are left.
        """
        for job in [job for job in self._makings if job not in jobs]:
            self.leave(job)
        for each in requests:
            self._asked[each["job"]] = each
            with self._blaming(each["job"]):
                self._begin(each)
        while self._asked:
            for group in self._groups():
                self._advance(group)

    def leave(self, job: str) -> None:
        """Make no more of a job; its finished clips are on the disk."""
        if (making := self._makings.pop(job, None)) is not None:
            making.close()

    def _begin(self, request: Request) -> None:
        job = request["job"]
        if job in self._stopped:
            raise Cancelled
        folder, files, settings = Path(request["folder"]), request["files"], request["settings"]
        if (before := self._makings.get(job)) is not None and before.folder != folder:  # of an earlier try
            self.leave(job)
        if job not in self._makings:
            keep = request.get("keep_fragments", False)
            stopping = lambda: self._is_stopping(job)  # noqa: E731
            self._makings[job] = Making(self._pipeline, job, folder, files, settings, self._say, stopping, keep)
        if not self._is_made(job):
            self._makings[job].begin()
        self._answer_made(job)

    def _is_made(self, job: str) -> bool:
        making, clip = self._makings[job], self._asked[job]["clip"]
        return making.is_finished if clip is None else making.has(clip)

    def _answer_made(self, job: str) -> None:
        """Answer if what is asked of the job is there."""
        if self._is_made(job):
            making, clip = self._makings[job], self._asked[job]["clip"]
            self._answer(job, making.finish() if clip is None else making.clip(clip))

    def _groups(self) -> list[list[str]]:
        """Who can be advanced together."""
        found: dict[Hashable, list[str]] = {}
        for job in self._asked:
            found.setdefault(self._pipeline.stage(self._makings[job].video.state), []).append(job)
        return list(found.values())

    def _advance(self, jobs: Sequence[str]) -> None:
        """Make the next clip of each."""
        places = self._pipeline.pack
        videos = [self._makings[job].video for job in jobs]
        empty = [None] * (places - len(jobs))
        states, events = [*(each.pop_state() for each in videos), *empty], [*(each.events for each in videos), *empty]
        apart: list[str] = []
        with self._blaming(*jobs):
            try:
                for place, clip, state in self._pipeline.advance(states, events):
                    self._take(jobs[place], clip, state)
                    del clip, state  # nothing of it is kept while the next one is decoded
            except Exception as error:
                if len(jobs) == 1 or isinstance(error, Cancelled) or out_of_memory(error) or disk_is_full(error):
                    raise
                apart = [job for job in jobs if job in self._asked]
        del states
        for job in apart:
            with self._blaming(job):
                self._makings[job].close()
                self._makings[job].begin()
            if job in self._asked:
                self._advance([job])

    def _take(self, job: str, clip: Clip, state: State) -> None:
        if job in self._asked:  # or it was left meanwhile
            with self._blaming(job):
                self._makings[job].take(clip, state)
                self._answer_made(job)

    @contextmanager
    def _blaming(self, *jobs: str) -> Iterator[None]:
        """The block is these jobs' work: what ends it ends them."""
        before, self._sharing = self._sharing, jobs
        try:
            yield
        except Cancelled:
            self._end(jobs, lambda job: {"say": "stopped"})
        except Exception as error:
            self._end(jobs, lambda job, error=error: self._failure(job, error))
        finally:
            self._sharing = before

    def _end(self, jobs: Sequence[str], why: Any) -> None:
        for job in jobs:
            if job in self._asked:
                self.leave(job)
                self._answer(job, why(job))

    def _failure(self, job: str, error: Exception) -> dict[str, Any]:
        asked = self._asked[job]
        paths = paths_of(self._pipeline.family, asked["files"])
        return failure_at(error, Path(asked["folder"]), paths, self._pipeline.pack)

    def _answer(self, job: str, said: dict[str, Any]) -> None:
        self._say({**said, "request": self._asked.pop(job)["request"]})

    def _is_stopping(self, job: str) -> bool:
        """Whether nobody wants the work in hand any more. A job that is to be left while others want it is left by
        itself."""
        if not any(each in self._asked and each not in self._stopped for each in self._sharing):
            return True
        if job in self._stopped:
            self._end([job], lambda job: {"say": "stopped"})
        return False
