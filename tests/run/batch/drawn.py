"""A pipeline without models, which draws: for what happens around a pipeline. As a program it is a worker of a batch.

python -m tests.run.batch.drawn LIST FOLDER LEASE_TIMEOUT SECONDS_A_CLIP [--together true]
"""

import dataclasses
import math
import sys
import time
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import numpy as np

from talkverse_jax.core.reporting import Reporter
from talkverse_jax.pipeline.clip import Clip, Timeline
from talkverse_jax.pipeline.machine import Machine, Weights
from talkverse_jax.pipeline.pipeline import Pipeline
from talkverse_jax.run.batch.items import Base
from talkverse_jax.run.batch.together import run_together
from talkverse_jax.run.batch.worker import run_batch
from talkverse_jax.run.options import BatchOptions
from talkverse_jax.sharding.distributed import session
from tests.processes import ROOT

WEIGHTS = str(ROOT / "tests/fixtures/before/weights")  # whose manifest is noted
FRAMES = 5  # of a clip


@dataclasses.dataclass(frozen=True)
class Drawn:
    job: Any
    inputs: Any
    notices: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class DrawnState:
    encoded: Drawn
    clip: int = 0


class DrawnPipeline(Pipeline):
    """Each clip is in a colour of the video's seed.

    Attributes:
      acts: what happens before a clip of a video is drawn, by its prompt.
    """

    family, machine = "talkverse", Machine()

    def __init__(self, pack: int = 1, pace: float = 0.0):
        self.weights, self.pack, self._pace, self.acts = Weights(WEIGHTS), pack, pace, {}
        self.models: Any = SimpleNamespace(notices=())

    def encode(self, job, events, inputs=None):
        return Drawn(job, inputs)

    def timeline(self, encoded):
        frames = max(1, math.floor(25 * encoded.inputs.seconds))
        clips = math.ceil(frames / FRAMES)
        return Timeline(clips, tuple(FRAMES * clip for clip in range(clips)), frames)

    def start(self, encoded, events):
        return DrawnState(encoded)

    def advance(self, states, events):
        for state in filter(None, states):
            if act := self.acts.get(state.encoded.job.settings.prompt):
                act()
        for place, state in enumerate(states):
            if state is None:
                continue
            time.sleep(self._pace)
            rng = np.random.default_rng([state.encoded.job.seed, state.clip])
            frames = np.broadcast_to(rng.uniform(-1, 1, 3), (FRAMES, *state.encoded.inputs.size, 3))
            yield place, Clip(state.clip, frames, np.zeros((1, 1, 1, 1))), DrawnState(state.encoded, state.clip + 1)

    def save(self, state):
        return None

    def restore(self, encoded, clip, saved, events):
        return DrawnState(encoded, clip)

    def describe(self):
        return {}


class Said(Reporter):
    """Keeps what it is told."""

    def __init__(self):
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


def make(
    pipeline: DrawnPipeline, path: str, folder: str, reporter: Reporter, lease_timeout: int = 60, run=run_batch
) -> int:
    """The videos of a list, of 128 pixels; how many failed."""
    base = Base("talkverse", pipeline.weights, pipeline.machine, {"size_bucket": "tiny-128"})
    return run(pipeline, base, BatchOptions(path, folder, pipeline.pack, lease_timeout), reporter)


def main() -> None:
    from talkverse_jax.cli.command import run_command
    from talkverse_jax.cli.progress import TerminalReporter

    path, folder, timeout, pace, *together = sys.argv[1:]
    pipeline = DrawnPipeline(pace=float(pace))
    how, run = (session(), run_together) if together else (nullcontext(), run_batch)

    def work() -> int:
        with how:
            return make(pipeline, path, folder, TerminalReporter(), int(timeout), run)

    run_command(lambda: sys.exit(work() and 1))


if __name__ == "__main__":
    main()
