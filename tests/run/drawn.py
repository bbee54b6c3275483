"""A pipeline without models: NumPy draws its clips, in no time; each follows from the one before."""

import dataclasses
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from talkverse_jax.families.talkverse.settings import Files, Settings
from talkverse_jax.pipeline.clip import Clip, Timeline
from talkverse_jax.pipeline.job import Job
from talkverse_jax.pipeline.machine import Machine, Weights
from talkverse_jax.pipeline.pipeline import Pipeline
from tests.processes import ROOT

WEIGHTS = ROOT / "tests/fixtures/before/weights"
CLIPS, FRAMES = 3, 4


@dataclasses.dataclass(frozen=True)
class State:
    clip: int
    before: np.ndarray


class Drawn(Pipeline):
    """Attributes:
    made: the clips that it drew, by number.
    """

    family, machine = "talkverse", Machine()
    models = SimpleNamespace(notices=(), describe=dict)

    def __init__(self):
        self.made = []

    def encode(self, job, events, inputs=None):
        return SimpleNamespace(job=job, inputs=inputs, notices=())

    def timeline(self, encoded):
        starts = tuple(FRAMES * clip for clip in range(CLIPS))
        return Timeline(CLIPS, starts, CLIPS * FRAMES)

    def start(self, encoded, events):
        return State(0, np.full((8, 8), encoded.job.seed % 7 / 7, np.float32))

    def advance(self, states, events):
        [state] = states
        self.made.append(state.clip)
        rng = np.random.default_rng(round(1000 * float(state.before.sum())))
        latents = rng.random((FRAMES, 8, 8), np.float32)
        frames = np.repeat(np.kron(latents, np.ones((16, 16), np.float32))[..., None], 3, -1) * 2 - 1
        yield 0, Clip(state.clip, frames, latents[..., None]), State(state.clip + 1, latents[-1])

    def save(self, state):
        return {"before": state.before}

    def restore(self, encoded, clip, saved, events):
        return State(clip, saved["before"])


def job(output: Path, **changes) -> Job:
    """Of a video of 128x128; `changes` of its options."""
    values = {
        "image": str(ROOT / "assets/face.png"),
        "audio": str(ROOT / "assets/speech.flac"),
        "prompt": "A woman talks.",
        "size_bucket": "tiny-128",
        "base_seed": 3,
        "weights": str(WEIGHTS),
    }
    values |= changes

    def made(cls):
        return cls(**{field.name: values[field.name] for field in dataclasses.fields(cls) if field.name in values})

    return Job.make("talkverse", made(Weights), Machine(), made(Files), made(Settings), str(output))
