"""One worker of a batch that is several processes, such as those of a slice of TPUs.

Process 0 is the worker: it alone takes packs, writes and speaks. Before it calls its pipeline it tells the others,
which do the same, as programs over all devices need all processes. So it prepares no pack beside another. What is wrong
with an item is wrong with it in all of them; an error that nobody foresaw may be one process's alone, and ends all.
"""

import dataclasses
import hashlib
import json
from collections.abc import Hashable, Iterator, Sequence
from typing import Any

from talkverse_jax.core.errors import UserError
from talkverse_jax.core.reporting import Reporter
from talkverse_jax.pipeline import registry
from talkverse_jax.pipeline.clip import Clip, State, Timeline
from talkverse_jax.pipeline.events import Events
from talkverse_jax.pipeline.job import Job
from talkverse_jax.pipeline.pipeline import Encoded, Inputs, Pipeline, Saved
from talkverse_jax.run.batch.items import Base, read_list
from talkverse_jax.run.batch.worker import run_batch
from talkverse_jax.run.options import BatchOptions
from talkverse_jax.sharding.distributed import check_same, from_main, is_main

_NAME = "batch"  # under which process 0 tells what is done next


class ProcessesPart(BaseException):
    """An error that maybe not every process has had: none goes on, and the lease in work ends as by a death."""


class LeadingPipeline(Pipeline):
    """That of process 0: whatever it does, the others do too."""

    def __init__(self, pipeline: Pipeline):
        self._pipeline = pipeline
        self.family, self.weights, self.machine = pipeline.family, pipeline.weights, pipeline.machine
        self.models, self.pack = pipeline.models, pipeline.pack
        self._numbers: dict[int, int] = {}  # of states, by their id; each new one has its own
        self._count = 0
        self._advanced = False

    def encode(self, job: Job, events: Events, inputs: Inputs | None = None) -> Encoded:
        if self._advanced:
            _tell("forget")
            self._advanced = False
        _tell("encode", job.output)
        with _All():
            return self._pipeline.encode(job, events, inputs)

    def timeline(self, encoded: Encoded) -> Timeline:
        return self._pipeline.timeline(encoded)

    def start(self, encoded: Encoded, events: Events) -> State:
        _tell("start", encoded.job.output)
        with _All():
            return self._numbered(self._pipeline.start(encoded, events))

    def stage(self, state: State) -> Hashable:
        return self._pipeline.stage(state)

    def advance(
        self, states: Sequence[State | None], events: Sequence[Events | None]
    ) -> Iterator[tuple[int, Clip, State]]:
        _tell("advance", *(None if state is None else self._numbers[id(state)] for state in states))
        self._advanced = True
        with _All():
            clips = iter(self._pipeline.advance(states, events))
        del states
        try:
            while True:
                with _All():
                    if (found := next(clips, None)) is None:
                        return
                    self._numbered(found[2])
                yield found
                del found
        finally:
            for _ in clips:  # a caller that has lost its lease takes no more, but the others do
                pass

    def save(self, state: State) -> Saved | None:
        raise NotImplementedError("a batch saves no states")

    def restore(self, encoded: Encoded, clip: int, saved: Saved, events: Events) -> State:
        raise NotImplementedError("a batch saves no states")

    def describe(self) -> dict[str, Any]:
        return self._pipeline.describe()

    def _numbered(self, state: State) -> State:
        self._numbers[id(state)] = self._count
        self._count += 1
        return state


class _All:
    """What is raised in the block is an item's fault, or the end of all processes."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, Exception) and not isinstance(error, UserError):
            raise ProcessesPart(f"{type(error).__name__}: {error}") from error


def run_together(pipeline: Pipeline, base: Base, options: BatchOptions, reporter: Reporter) -> int:
    """As `run_batch`, in each of several processes that are one worker.

    Returns:
      how many could not be made; 0 in other processes than 0.

    Raises:
      UserError: the list or the folder cannot be used, or the list is not that of process 0.
    """
    assert options.batch  # what BatchOptions sees to
    jobs = _jobs(options.batch, base)
    if not is_main():
        _follow(pipeline, jobs)
        return 0
    failed = run_batch(LeadingPipeline(pipeline), base, options, reporter)
    _tell("over")
    return failed


def _follow(pipeline: Pipeline, jobs: dict[str, Job]) -> None:
    """Do what process 0's pipeline does, until it lets go."""
    encoded: dict[str, Encoded] = {}
    states: dict[int, State] = {}
    count = 0
    while True:
        what, *given = json.loads(from_main(_NAME, "", timeout=None))
        try:
            if what == "over":
                return
            elif what == "forget":
                encoded.clear()
                states.clear()
            elif what == "encode":
                job = jobs[given[0]]
                encoded[job.output] = pipeline.encode(job, Events(), registry.find(job.family).read(job))
            elif what == "start":
                states[count] = pipeline.start(encoded[given[0]], Events())
                count += 1
            elif what == "advance":
                before = [None if number is None else states[number] for number in given]
                states.clear()
                listening = [None if state is None else Events() for state in before]
                for _, _, state in pipeline.advance(before, listening):
                    states[count] = state
                    count += 1
        except UserError:  # the item's: process 0 has it too, and tells it
            pass


def _jobs(path: str, base: Base) -> dict[str, Job]:
    """The jobs of a list by what they write; all processes must ask.

    Raises:
      UserError: the list cannot be used, or is not that of process 0.
    """
    jobs = {item.job.output: item.job for item in read_list(path, base) if item.job is not None}
    told = [[name, dataclasses.asdict(job.files), dataclasses.asdict(job.settings)] for name, job in jobs.items()]
    check_same(f"--batch {path}", hashlib.sha256(json.dumps(told).encode()).hexdigest())
    return jobs


def _tell(*what: Any) -> None:
    from_main(_NAME, json.dumps(what))
