"""What is known of a finished video: with what it was made, and where the time went. `NAME.json` beside the video."""

import dataclasses
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax

import talkverse_jax
from talkverse_jax.core.compile_cache import Programs
from talkverse_jax.core.errors import UserError
from talkverse_jax.core.stopwatch import Stopwatch
from talkverse_jax.media.frame_rate import FPS
from talkverse_jax.pipeline.clip import Timeline
from talkverse_jax.pipeline.events import Events
from talkverse_jax.pipeline.pipeline import Encoded, Pipeline
from talkverse_jax.weights import store

PHASES = ("loading", "encoding", "denoising", "decoding", "writing")


class Timed(Events):
    """Passes events on, and keeps the time of each phase."""

    def __init__(self, listener: Events):
        self.listener, self.stopwatch = listener, Stopwatch(*PHASES)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        with self.listener.phase(name), self.stopwatch.phase(name):
            yield

    def planned(self, done: int, count: int | None) -> None:
        self.listener.planned(done, count)

    def step(self, index: int, count: int) -> None:
        self.stopwatch.mark("to_first_step")
        self.listener.step(index, count)

    def clip(self, index: int, count: int | None, preview: Callable[[], Any]) -> None:
        self.listener.clip(index, count, preview)

    def notice(self, text: str) -> None:
        self.listener.notice(text)

    def cancelled(self) -> bool:
        return self.listener.cancelled()


def describe(
    pipeline: Pipeline, encoded: Encoded, timeline: Timeline, seconds: dict[str, float], programs: Programs
) -> dict[str, Any]:
    """The record of a video.

    Args:
      seconds: by phase.
    """
    job = encoded.job
    settings: dict[str, Any] = {"output": job.output}
    for group in (job.weights, job.machine, job.files, job.settings):
        settings |= dataclasses.asdict(group)
    return {
        "talkverse_jax": talkverse_jax.__version__,
        "jax": jax.__version__,
        "family": job.family,
        "identity": job.identity(),
        **pipeline.describe(),
        "settings": settings | {"base_seed": job.seed},
        "made_from": job.made_from,
        "size": list(encoded.inputs.size),
        "frames": timeline.shown,
        "clips": timeline.clips,
        "fps": FPS,
        "notices": [*encoded.inputs.notices, *pipeline.models.notices, *encoded.notices],
        "seconds": seconds,
        "programs": {"compiled": programs.compiled, "from_cache": programs.cached},
        "weights": store.read_manifest(job.weights.weights),
    }


def check_record(path: Path) -> Path:
    """Make sure that the JSON beside the video, where there is one, is a record of ours.

    Raises:
      UserError: it is something else, which is left alone.
    """
    if path.exists():
        try:
            ours = "talkverse_jax" in json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, TypeError):
            ours = False
        if not ours:
            raise UserError(f"{path}: stands where the video's record goes and is none; give another --output")
    return path
