"""A worker that is several processes, such as those of a slice of TPUs.

Process 0 is the worker: it alone is asked, writes and speaks. Before it calls its pipeline it tells the others, which
do the same, as programs over all devices need all processes. They make one video at a time. What is wrong with a video
is wrong with it in all of them; an error that nobody foresaw may be one process's alone, and ends all.
"""

import dataclasses
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from jax.experimental import multihost_utils

from talkverse_jax.core.errors import UserError
from talkverse_jax.pipeline import registry
from talkverse_jax.pipeline.clip import Clip, State, Timeline
from talkverse_jax.pipeline.events import Cancelled, Events, PassedOn
from talkverse_jax.pipeline.job import Job
from talkverse_jax.pipeline.live_features import Unending
from talkverse_jax.pipeline.pipeline import Encoded, Inputs, Pipeline, Saved
from talkverse_jax.run.batch.together import ProcessesPart
from talkverse_jax.run.worker import StopTogether
from talkverse_jax.serve.jobs.folders import VIDEO
from talkverse_jax.serve.jobs.walls import within
from talkverse_jax.serve.worker.making import paths_inside, paths_of
from talkverse_jax.sharding.distributed import from_main

_NAME = "serve"  # under which process 0 tells what is done next


class SlicePipeline(Pipeline):
    """That of process 0: whatever it does, the others do too."""

    def __init__(self, pipeline: Pipeline):
        self._pipeline = pipeline
        self.family, self.weights, self.machine = pipeline.family, pipeline.weights, pipeline.machine
        self.models, self.pack = pipeline.models, pipeline.pack
        self._events: Events = Events()

    def encode(self, job: Job, events: Events, inputs: Inputs | None = None) -> Encoded:
        self._events = StopTogether(_LeftAtSteps(events))
        _tell("encode", _described(job))
        with _in_all():
            return self._pipeline.encode(job, self._events, inputs)

    def timeline(self, encoded: Encoded) -> Timeline:
        return self._pipeline.timeline(encoded)

    def start(self, encoded: Encoded, events: Events) -> State:
        _tell("start")
        with _in_all():
            return self._pipeline.start(encoded, self._events)

    def stage(self, state: State) -> Any:
        return self._pipeline.stage(state)

    def advance(
        self, states: Sequence[State | None], events: Sequence[Events | None]
    ) -> Iterator[tuple[int, Clip, State]]:
        _tell("advance")
        with _in_all():
            clips = iter(self._pipeline.advance(states, [self._events]))
        del states
        while True:
            with _in_all():
                if (found := next(clips, None)) is None:
                    return
            yield found
            del found

    def listen(self, job: Job, sound: Unending, events: Events) -> Encoded:
        raise UserError("several processes make no live video; ask a server with one")

    def save(self, state: State) -> Saved | None:
        _tell("save")
        with _in_all():
            return self._pipeline.save(state)

    def restore(self, encoded: Encoded, clip: int, saved: Saved, events: Events) -> State:
        _tell("restore", clip, {name: [array.shape, array.dtype.name] for name, array in saved.items()})
        with _in_all():
            return self._pipeline.restore(encoded, clip, _from_main(saved), self._events)

    def describe(self) -> dict[str, Any]:
        return self._pipeline.describe()


def follow(pipeline: Pipeline, inputs: Callable[[str], Path]) -> NoReturn:
    """Do what process 0's pipeline does, for as long as it lives.

    Args:
      inputs: gives a folder with the inputs of a job.
    """
    encoded: Any = None
    states: list[State] = []
    events = Events()
    while True:
        what, *given = json.loads(from_main(_NAME, "", timeout=None))
        try:
            if what == "encode":
                encoded, states, events = None, [], StopTogether(Events())
                job = _job(pipeline, inputs(given[0]["job"]), **given[0])
                encoded = pipeline.encode(job, events, registry.find(job.family).read(job))
            elif what == "start":
                states = [pipeline.start(encoded, events)]
            elif what == "restore":
                clip, arrays = given
                saved = _from_main({name: np.zeros(shape, dtype) for name, (shape, dtype) in arrays.items()})
                states = [pipeline.restore(encoded, clip, saved, events)]
            elif what == "advance":
                before, states = states, []
                states = [state for _, _, state in pipeline.advance(before, [events])]
            elif what == "save":
                pipeline.save(states[0])
        except (UserError, Cancelled):  # the video's: process 0 has it too, and tells it
            pass


def _tell(*what: Any) -> None:
    from_main(_NAME, json.dumps(what))


def _from_main(arrays: Saved) -> Saved:
    """Process 0's arrays, in every process; the others give arrays of the same shapes."""
    return {name: np.asarray(each) for name, each in multihost_utils.broadcast_one_to_all(arrays).items()}


@contextmanager
def _in_all() -> Iterator[None]:
    """What is raised in the block is a video's fault, or the end of all processes."""
    try:
        yield
    except (UserError, Cancelled):
        raise
    except Exception as error:
        raise ProcessesPart(f"{type(error).__name__}: {error}") from error


class _LeftAtSteps(PassedOn):
    """Events that stop between two steps, where all processes ask, and not at a phase's beginning."""

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        with ExitStack() as stack:
            with suppress(Cancelled):
                stack.enter_context(self.listener.phase(name))
            yield


def _described(job: Job) -> dict[str, Any]:
    """A job as the others are told of it; paths of its files start from its folder."""
    folder, files = Path(job.output).parent, dataclasses.asdict(job.files)
    plain = json.loads(json.dumps(files))
    for name, value in paths_of(job.family, plain).items():
        plain[name] = _outside(folder, value)
    told = {"files": plain, "settings": dataclasses.asdict(job.settings), "seed": job.seed}
    return {"job": folder.name.partition(".")[0], "machine": dataclasses.asdict(job.machine), **told}


def _outside(folder: Path, value: Any) -> Any:
    if isinstance(value, str):
        return value.removeprefix(f"{folder}/")
    return value if value is None else [_outside(folder, each) for each in value]


def _job(pipeline: Pipeline, folder: Path, job: str, machine: Any, files: Any, settings: Any, seed: int) -> Job:
    values = settings | files | paths_inside(folder, paths_of(pipeline.family, files))
    made = pipeline.job(output=str(folder / VIDEO), **values)
    return dataclasses.replace(made, machine=within(pipeline.machine, machine), seed=seed)
