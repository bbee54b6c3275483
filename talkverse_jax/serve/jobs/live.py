"""How far jobs are: one in work, from what its process tells, the others from their rows."""

import dataclasses
import time
from collections.abc import Mapping, Sequence
from typing import Any

from talkverse_jax.serve.jobs.job import Progress

_MOST = 99  # percent of a job that is not completed
_PHASES = ("loading", "encoding", "denoising", "decoding", "writing")  # of a clip, as they are told


class Live:
    """A job in work.

    Args:
      done: clips of it that were finished before.
      pace: seconds a step of the last clip that was made, with all that belongs to a clip; None where none was.
    """

    def __init__(self, job: str, clips: int, done: int, pace: float | None = None):
        self._clips, self._done, self.pace = clips, done, pace
        self._planned, self._phase = False, _PHASES[0]
        self._clip_begun = time.monotonic()
        self._now = Progress(job, "in_progress", clips=clips)
        self._move(0, 0)

    @property
    def progress(self) -> Progress:
        return self._now

    @property
    def clips_left(self) -> int:
        """Clips that are missing."""
        return self._clips - self._done

    def hear(self, message: Mapping[str, Any]) -> None:
        """Take in what the process tells."""
        match message["say"]:
            case "phase" if message["phase"] in _PHASES:
                # A pipeline goes to and fro: it loads a model behind another's encoding, or encodes the end of a clip.
                self._phase = max(self._phase, message["phase"], key=_PHASES.index)
                clip = min(self._done + 1, self._clips) if self._planned else None
                self._now = dataclasses.replace(self._now, phase=self._phase, clip=clip)
            case "planned":
                self._planned, self._clip_begun = True, time.monotonic()
                self._done = max(self._done, message["done"])
                self._move(0, 0)
            case "step":
                self._move(message["step"], message["steps"])
            case "clip":
                now, steps = time.monotonic(), self._now.steps
                if steps:
                    self.pace = (now - self._clip_begun) / steps
                self._done, self._clip_begun, self._phase = message["clip"], now, _PHASES[0]
                self._move(0, steps)

    def _move(self, step: int, steps: int) -> None:
        fraction = min(1.0, (self._done + (step / steps if steps else 0)) / self._clips)
        eta = None
        if steps and self.pace is not None:
            eta = round(self.pace * ((self._clips - self._done) * steps - step))
        percent = min(_MOST, int(100 * fraction))
        self._now = dataclasses.replace(self._now, step=step, steps=steps, fraction=fraction, progress=percent, eta=eta)


def progress_of(row: Mapping[Any, Any], turns: Sequence[str], live: Progress | None) -> Progress:
    """How far a job is.

    Args:
      row: of the job.
      turns: the jobs that wait, in their order.
      live: what is told of it while it is in work.
    """
    job, status, clips = row["id"], row["status"], row["submission"]["clips"]
    if status == "in_progress" and live is not None:
        return live
    fraction = 1.0 if status == "completed" else row["clips_done"] / clips
    percent = 100 if status == "completed" else min(_MOST, int(100 * fraction))
    position = turns.index(job) + 1 if status == "queued" and job in turns else None
    return Progress(job, status, position, clips=clips, fraction=fraction, progress=percent)
