"""What is known of a finished video: with what it was made, and where the time went. `NAME.json` beside the video."""

import dataclasses
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax

import talkverse_jax
from talkverse_jax.core.compile_cache import Programs
from talkverse_jax.core.errors import UserError, naming
from talkverse_jax.core.paths import clear, is_plain, json_text, partial_of, publish, sync
from talkverse_jax.core.stopwatch import Stopwatch
from talkverse_jax.media.frame_rate import FPS
from talkverse_jax.pipeline.clip import Timeline
from talkverse_jax.pipeline.events import Events, PassedOn
from talkverse_jax.pipeline.pipeline import Encoded, Pipeline
from talkverse_jax.weights import store

_MOST = 2**26  # bytes of a record
_READ = {"made_from": dict, "frames": int, "bytes": int}  # what is looked at later, though not in all records
PHASES = ("loading", "encoding", "denoising", "decoding", "writing")


class Timed(PassedOn):
    """Passes events on, and keeps the time of each phase."""

    def __init__(self, listener: Events):
        super().__init__(listener)
        self.stopwatch = Stopwatch(*PHASES)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        with self.listener.phase(name), self.stopwatch.phase(name):
            yield

    def step(self, index: int, count: int) -> None:
        self.stopwatch.mark("to_first_step")
        super().step(index, count)


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
        **({"helpers": job.helped} if job.helped else {}),
        "size": list(encoded.inputs.size),
        "frames": timeline.shown,
        "clips": timeline.clips,
        "fps": FPS,
        "notices": [*encoded.inputs.notices, *pipeline.models.notices, *encoded.notices],
        "seconds": seconds,
        "programs": {"compiled": programs.compiled, "from_cache": programs.cached},
        "weights": store.read_manifest(job.weights.weights),
    }


def record_file(output: Path) -> Path:
    """Beside the video."""
    return output.with_suffix(".json")


def check_record(path: Path) -> None:
    """Make sure that what stands where a video's record goes, if anything does, is a record of ours.

    Raises:
      UserError: it is something else, which is left alone.
    """
    if os.path.lexists(path) and read_record(path) is None:
        raise UserError(f"{path}: stands where the video's record goes and is none; give another --output")


def read_record(path: Path) -> dict[str, Any] | None:
    """A record of ours; None where there is none, or something else."""
    if not path.is_file() or path.stat().st_size > _MOST:
        return None
    try:
        record = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(record, dict) or not {"talkverse_jax", "settings"} <= record.keys():
        return None
    return record if all(isinstance(record.get(name, kind()), kind) for name, kind in _READ.items()) else None


def prepare_record(output: Path, record: dict[str, Any]) -> None:
    """Have the record of a video on the disk before that takes its place; `place_record` gives it its name."""
    ready = partial_of(record_file(output))
    with naming(record_file(output)):
        clear(ready)
        ready.write_text(json_text(record), encoding="utf-8")
        sync(ready)


def prepared_record(output: Path) -> dict[str, Any] | None:
    """What `prepare_record` has written, where a run was killed before it was in place."""
    ready = partial_of(record_file(output))
    record = read_record(ready) if is_plain(ready) else None
    return record if record is not None and _READ.keys() <= record.keys() else None


def place_record(output: Path) -> None:
    """Put a prepared record in place; what was there goes."""
    publish(partial_of(record_file(output)), record_file(output))


def discard_prepared(output: Path) -> None:
    """Remove what `prepare_record` has written."""
    clear(partial_of(record_file(output)))
