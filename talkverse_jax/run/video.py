"""A video in the making: its files are its own, and whoever has it advances its state, for it alone or with others.

with claimed(job) as output, open_video(pipeline, job, output, events, resume=True) as video:
    while not video.is_done:
        for place, clip, state in pipeline.advance([video.pop_state()], [video.events]):
            video.take(clip, state)
    video.publish()

A clip is written on a thread of its own while the next one is denoised.
"""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from talkverse_jax.core.compile_cache import Programs, count_programs
from talkverse_jax.core.errors import UserError
from talkverse_jax.media.frame_rate import FPS
from talkverse_jax.media.video_writer import VideoWriter
from talkverse_jax.pipeline import registry
from talkverse_jax.pipeline.clip import Clip, State, Timeline
from talkverse_jax.pipeline.job import Job
from talkverse_jax.pipeline.pipeline import Encoded, Pipeline, Saved
from talkverse_jax.run.record import Timed, describe, place_record, prepare_record
from talkverse_jax.run.resume import Unfinished, discard, finish, is_finished, load, save
from talkverse_jax.sharding.distributed import is_main


class NotFinite(UserError):
    """A clip came out as values that are no numbers."""


class OpenVideo:
    """A video of which clips are missing.

    Attributes:
      timeline: its clips.
      events: who listens, with the time of each phase.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        encoded: Encoded,
        timeline: Timeline,
        output: Path,
        events: Timed,
        writer: VideoWriter | None,
        programs: Programs,
    ):
        self.timeline, self.events = timeline, events
        self._pipeline, self._encoded, self._output = pipeline, encoded, output
        self._writer, self._programs = writer, programs
        self._thread = ThreadPoolExecutor(1, "writing")
        self._writing: Future[None] | None = None
        self._state: State = None

    @property
    def state(self) -> State:
        """What the next clip must know; None while it is being advanced."""
        return self._state

    @state.setter
    def state(self, state: State) -> None:
        self._state = state
        self._clip: int = state.clip

    @property
    def is_done(self) -> bool:
        """Whether there is no clip left to make."""
        return self._clip >= self.timeline.clips

    def pop_state(self) -> State:
        """The state, to be advanced; it is not kept here, or a history would be in memory twice."""
        state, self._state = self._state, None
        return state

    def take(self, clip: Clip, state: State) -> Clip:
        """Begin to write a clip, with what the next one must know, when the one before is on the disk; all processes
        must. The clip with the frames that the video shows.

        Args:
          state: behind it.

        Raises:
          UserError: the clip before is not finite, or could not be written.
        """
        saved = self._pipeline.save(state) if state.clip < self.timeline.clips else None
        self.settle()
        if self._writer is not None:
            self._writing = self._thread.submit(self._write, self._writer, clip, state.clip, saved)
        del saved
        self.state = state
        clip = self.timeline.cut(clip)
        self.events.clip(clip.index, self.timeline.clips, lambda: _pictures(clip))
        return clip

    def settle(self) -> None:
        """Wait until all that was taken is on the disk.

        Raises:
          UserError: a clip is not finite, or could not be written.
        """
        if self._writing is not None:
            with self.events.phase("writing"):
                writing, self._writing = self._writing, None
                writing.result()

    def close(self) -> None:
        """Let what is being written end; what is wrong with it is not told."""
        self._thread.shutdown()

    def _write(self, writer: VideoWriter, clip: Clip, following: int, saved: Saved | None) -> None:
        write_clip(writer, clip, self.timeline, self._encoded.job)
        if saved:
            save(self._output, self._encoded.job, following, saved, writer.clips, writer.checksums)

    def publish(self) -> None:
        """Give the finished video its name, and its record."""
        self.settle()
        if self._writer is None:
            return
        spent = self.events.stopwatch.rounded()
        record = describe(self._pipeline, self._encoded, self.timeline, spent, self._programs)
        prepare_record(self._output, record | {"bytes": self._writer.complete()})
        self._writer.publish()
        place_record(self._output)
        finish(self._output)
        self.events.notice(f"{self._output}: {_spent(record)}")


@contextmanager
def open_video(
    pipeline: Pipeline,
    job: Job,
    output: Path,
    events: Timed,
    *,
    resume: bool = False,
    encoded: Encoded | None = None,
    alone: bool = False,
) -> Iterator[OpenVideo | None]:
    """A job's video, encoded and begun, or gone on with; None where it is finished already. What is not published when
    the block ends can be gone on with.

    Args:
      output: where it goes; nobody else writes there.
      resume: go on with what a stopped run of the same job left.
      encoded: the job, where it has been encoded already.
      alone: of several processes, only process 0 has the video; its pipeline tells the others what to do.

    Raises:
      UserError: a file or a setting cannot be used, or what is there cannot be gone on with.
    """
    inputs = encoded.inputs if encoded else registry.find(job.family).read(job)
    if resume and is_finished(output, job, events.notice):
        events.notice(f"{output} is finished already")
        yield None
        return
    unfinished = load(output, job, alone=alone) if resume else None
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
        writer = open_writer(output, encoded, timeline, unfinished) if is_main() else None
        video = OpenVideo(pipeline, encoded, timeline, output, events, writer, programs)
        try:
            video.state = state
            del state, unfinished  # nothing of a clip is kept here while the next one is made
            yield video
        finally:
            video.close()
            if writer is not None:
                writer.abandon()  # unless it is published


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
        kept = f" (the {writer.frames} frames before it are in {writer.partial.name})" if writer.frames else ""
        raise NotFinite(not_finite(clip.index, job, kept))
    writer.write(timeline.cut(clip).pictures)


def not_finite(index: int, job: Job, kept: str = "") -> str:
    """What is said of a clip that is not finite, with where those before it are kept."""
    wide = job.machine.dtype == job.machine.vae_dtype == "float32"
    narrow = "" if wide else "try --dtype float32 --vae_dtype float32; if that is no help, "
    return (
        f"clip {index + 1}: came out as values that are no numbers{kept}; {narrow}the weights are damaged: "
        f"delete {job.weights.weights} and convert them again"
    )
