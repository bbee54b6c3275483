"""A job becomes a video file: the loop that every caller runs.

`sample.py`, a batch, a preview during training, `evaluate`, a server and Python programs call this, each with its
own `Events`. It prints nothing and sets nothing for the whole process.
"""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from talkverse_jax.core.compile_cache import count_programs
from talkverse_jax.core.errors import UserError
from talkverse_jax.media.frame_rate import FPS
from talkverse_jax.media.video_writer import VideoWriter, check_output
from talkverse_jax.pipeline import registry
from talkverse_jax.pipeline.clip import Clip, Timeline
from talkverse_jax.pipeline.events import Events
from talkverse_jax.pipeline.job import Job
from talkverse_jax.pipeline.pipeline import Encoded, Pipeline
from talkverse_jax.run.output import claimed
from talkverse_jax.run.record import Timed, describe, place_record, prepare_record
from talkverse_jax.run.resume import Unfinished, discard, finish, is_finished, load, save
from talkverse_jax.sharding.distributed import check_same, from_main, is_main, process_count

_ASK_EVERY = 1.0  # seconds between two questions to process 0 whether to stop


class NotFinite(UserError):
    """A clip came out as values that are no numbers."""


def make_video(
    pipeline: Pipeline,
    job: Job,
    events: Events | None = None,
    *,
    resume: bool = False,
    encoded: Encoded | None = None,
) -> Path:
    """Make a video and, beside it, a JSON file that says how; the video's path.

    Args:
      resume: go on with what a stopped run of the same job left.
      encoded: the job, where it has been encoded already.

    Raises:
      UserError: a file or a setting cannot be used, the video would take the place of a file that the job reads, or
        another run is making it. What was at `job.output` before is then still there.
      Cancelled: `events` asked to stop; the finished clips are kept, and `resume` goes on from there.
    """
    for _ in make_clips(pipeline, job, events, resume=resume, encoded=encoded):
        pass
    return check_output(job.output)


def make_clips(
    pipeline: Pipeline,
    job: Job,
    events: Events | None = None,
    *,
    resume: bool = False,
    encoded: Encoded | None = None,
) -> Iterator[Clip]:
    """As `make_video`, clip by clip: each is on the disk when it is handed out, and has the frames that the video
    shows. The file is finished when the last one has been taken; until then no other run may write it."""
    job = _agreed(job)
    with claimed(job) if is_main() else nullcontext(Path(job.output)) as output:
        yield from _clips(pipeline, job, output, Timed(_shared(events or Events())), resume, encoded)


def _clips(
    pipeline: Pipeline, job: Job, output: Path, events: Timed, resume: bool, encoded: Encoded | None
) -> Iterator[Clip]:
    inputs = encoded.inputs if encoded else registry.find(job.family).read(job)
    if resume and is_finished(output, job, events.notice):
        events.notice(f"{output} is finished already")
        return
    unfinished = load(output, job) if resume else None
    if unfinished is not None:
        job = job.with_seed(unfinished.made_from["base_seed"])
    elif is_main() and output.exists():
        events.notice(f"{output} is there; the new video takes its place when it is finished")
    for notice in inputs.notices:
        events.notice(notice)
    with count_programs() as programs:
        encoded = encoded or pipeline.encode(job, events, inputs)
        for notice in (*pipeline.models.notices, *encoded.notices):
            events.notice(notice)
        timeline, (height, width) = pipeline.timeline(encoded), inputs.size
        events.notice(f"{width}x{height}, {timeline}, seed {job.seed}")
        if resume:
            events.notice(f"goes on at clip {unfinished.clip + 1}" if unfinished else "nothing to go on from: begins")
        if unfinished:
            state = pipeline.restore(encoded, unfinished.clip, unfinished.saved, events)
        else:
            state = pipeline.start(encoded, events)
        events.planned(state.clip, timeline.clips)
        if is_main() and not unfinished:
            discard(output)  # of an older run
        with open_writer(output, encoded, timeline, unfinished) if is_main() else nullcontext() as writer:
            while state.clip < timeline.clips:
                states = [state]
                del state
                [(_, clip, state)] = pipeline.advance(states, [events])
                saved = pipeline.save(state) if state.clip < timeline.clips else None
                if writer is not None:
                    with events.phase("writing"):
                        write_clip(writer, clip, timeline, job)
                        if saved:
                            save(output, job, state.clip, saved, writer.clips, writer.checksums)
                del saved
                clip = timeline.cut(clip)
                events.clip(clip.index, timeline.clips, lambda clip=clip: _pictures(clip))
                yield clip
                del clip  # nothing of it is kept while the next one is made
            if writer is not None:
                record = describe(pipeline, encoded, timeline, events.stopwatch.rounded(), programs)
                prepare_record(output, record | {"bytes": writer.complete()})
                writer.publish()
                place_record(output)
                finish(output)
                events.notice(f"{output}: {_spent(record)}")


def _pictures(clip: Clip) -> Any:
    return None if clip.frames is None else clip.pictures


def _spent(record: dict[str, Any]) -> str:
    """What was made and where the time went, for people."""
    seconds = {name: each for name, each in record["seconds"].items() if name not in ("total", "to_first_step")}
    spent = ", ".join(f"{name} {each:.1f} s" for name, each in seconds.items())
    return f"{record['frames'] / record['fps']:.2f} s of video in {record['seconds']['total']:.1f} s ({spent})"


def open_writer(path: Path, encoded: Encoded, timeline: Timeline, unfinished: Unfinished | None = None) -> VideoWriter:
    """The writer of a video.

    Args:
      unfinished: what an earlier run has written of it.
    """
    job, track, (height, width) = encoded.job, encoded.inputs.track, encoded.inputs.size
    title = getattr(job.settings, "prompt", "")
    return VideoWriter(
        path,
        width=width,
        height=height,
        sound=track.native(),
        rate=track.rate,
        audio_start=timeline.audio_start,
        fps=FPS,
        metadata={"title": title[:200], "comment": f"talkverse_jax seed {job.seed}"},
        written=unfinished.written if unfinished else (),
        checksums=unfinished.checksums if unfinished else (),
    )


def write_clip(writer: VideoWriter, clip: Clip, timeline: Timeline, job: Job) -> None:
    """Append a clip, trimmed and cut to the timeline.

    Raises:
      NotFinite: it is.
    """
    if not clip.finite:
        raise NotFinite(_not_finite(clip.index, job, writer))
    writer.write(timeline.cut(clip).pictures)


def _not_finite(index: int, job: Job, writer: VideoWriter) -> str:
    wide = job.machine.dtype == job.machine.vae_dtype == "float32"
    narrow = "" if wide else "try --dtype float32 --vae_dtype float32; if that is no help, "
    kept = f" (the {writer.frames} frames before it are in {writer.partial.name})" if writer.frames else ""
    return (
        f"clip {index + 1}: came out as values that are no numbers{kept}; {narrow}the weights are damaged: "
        f"delete {job.weights.weights} and convert them again"
    )


def _agreed(job: Job) -> Job:
    """The job with process 0's seed.

    Raises:
      UserError: this process was given another job.
    """
    job = job.with_seed(int(from_main("seed", str(job.seed))))
    told = [repr(group) for group in (job.family, job.weights, job.machine, job.files, job.settings, job.output)]
    check_same("options", json.dumps([told, job.seed]))
    return job


def _shared(events: Events) -> Events:
    """Of several processes, process 0's events, whose wish to stop holds for all."""
    return events if process_count() == 1 else _OfMain(events if is_main() else Events())


class _OfMain(Events):
    """Asks process 0 about once a second whether to stop; all processes count steps alike, and ask at the same."""

    def __init__(self, listener: Events):
        self._listener = listener
        self._until, self._skip, self._since = 1, 1, time.monotonic()

    def phase(self, name: str):
        return self._listener.phase(name)

    def planned(self, done: int, count: int | None) -> None:
        self._listener.planned(done, count)

    def step(self, index: int, count: int) -> None:
        self._listener.step(index, count)

    def clip(self, index: int, count: int | None, preview: Callable[[], Any]) -> None:
        self._listener.clip(index, count, preview)

    def notice(self, text: str) -> None:
        self._listener.notice(text)

    def cancelled(self) -> bool:
        self._until -= 1
        if self._until > 0:
            return False
        pace = (time.monotonic() - self._since) / self._skip  # seconds a step
        answer = json.dumps([self._listener.cancelled(), max(1, int(_ASK_EVERY / max(pace, 1e-3)))])
        stop, self._skip = json.loads(from_main("cancelled", answer))
        self._until, self._since = self._skip, time.monotonic()
        return stop
