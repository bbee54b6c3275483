"""A live pipeline without models: each frame is as bright as its sound is loud."""

import dataclasses
import time
from types import SimpleNamespace

import numpy as np

from talkverse_jax.pipeline.clip import Clip
from talkverse_jax.pipeline.endless import Endless
from talkverse_jax.pipeline.live_features import ROW
from tests.run import drawn

FIRST, EVERY, LOST = 1, 2, 1  # frames


@dataclasses.dataclass(frozen=True)
class State:
    clip: int
    sound: object


class Echo(drawn.Drawn):
    """Each frame is as bright as its sound is loud."""

    def __init__(self, seconds: float = 0.0):
        super().__init__()
        self.seconds, self.broken = seconds, False

    def listen(self, job, sound, events):
        inputs = SimpleNamespace(notices=("a picture",), size=(16, 16))
        return SimpleNamespace(job=job, inputs=inputs, notices=(), sound=sound)

    def timeline(self, encoded):
        return Endless.of(FIRST, EVERY)

    def start(self, encoded, events):
        return State(0, encoded.sound)

    def advance(self, states, events):
        [state], [events_] = states, events
        begin = Endless.of(FIRST, EVERY).begins(state.clip) - (0 if state.clip else LOST)
        with events_.phase("encoding"):
            state.sound.wait((begin + EVERY) * ROW)
            heard = state.sound.read(max(0, begin) * ROW, (begin + EVERY) * ROW)
        with events_.phase("denoising"):
            time.sleep(self.seconds)
        levels = np.resize(np.pad(heard, (0, -len(heard) % ROW)), EVERY * ROW).reshape(EVERY, ROW)[:, 0]
        frames = np.ones((EVERY, 16, 16, 3), np.float32) * levels[:, None, None, None]
        frames = frames[LOST:] if not state.clip else frames
        clip = Clip(state.clip, frames * (np.nan if self.broken else 1), levels[:, None, None, None])
        events_.decoded(clip)
        with events_.phase("encoding"):
            yield 0, clip, State(state.clip + 1, state.sound)


def steps(frames: int) -> np.ndarray:
    """Each frame's worth of sound louder than the one before, up to 0.5."""
    return np.repeat(np.linspace(0.1, 0.5, frames), ROW).astype(np.float32)


def bright(frames: int) -> list[int]:
    return list(np.round(np.linspace(0.1, 0.5, frames).astype(np.float32) * 127.5 + 127.5).astype(int))
