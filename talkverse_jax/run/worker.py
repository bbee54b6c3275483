"""A job becomes a video file: the loop that every caller runs.

`sample.py`, a batch, a preview during training, `evaluate`, a server and Python programs call this, each with its
own `Events`. It prints nothing and sets nothing for the whole process.
"""

import json
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

from talkverse_jax.media.video_writer import check_output
from talkverse_jax.pipeline.clip import Clip
from talkverse_jax.pipeline.events import Events, PassedOn
from talkverse_jax.pipeline.job import Job
from talkverse_jax.pipeline.pipeline import Encoded, Pipeline
from talkverse_jax.run.output import claimed
from talkverse_jax.run.record import Timed
from talkverse_jax.run.video import open_video
from talkverse_jax.sharding.distributed import check_same, from_main, is_main, process_count

_ASK_EVERY = 1.0  # seconds between two questions to process 0 whether to stop


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
    for _ in _clips(pipeline, job, events, resume, encoded, settled=False):
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
    yield from _clips(pipeline, job, events, resume, encoded, settled=True)


def _clips(
    pipeline: Pipeline, job: Job, events: Events | None, resume: bool, encoded: Encoded | None, settled: bool
) -> Iterator[Clip]:
    """settled: hand each out when it is on the disk, not while it is written beside the next one's making."""
    job = _agreed(job)
    listening = Timed(_shared(events or Events()))
    with (
        claimed(job) if is_main() else nullcontext(Path(job.output)) as output,
        open_video(pipeline, job, output, listening, resume=resume, encoded=encoded) as video,
    ):
        if video is None:
            return
        while not video.is_done:
            [(_, clip, state)] = pipeline.advance([video.pop_state()], [listening])
            clip = video.take(clip, state)
            del state
            if settled:
                video.settle()
            yield clip
            del clip  # nothing of it is kept while the next one is made, but by the writer
        video.publish()


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
    return events if process_count() == 1 else StopTogether(events if is_main() else Events())


class StopTogether(PassedOn):
    """Asks process 0 about once a second whether to stop; all processes count steps alike, and ask at the same."""

    def __init__(self, listener: Events):
        super().__init__(listener)
        self._until, self._skip, self._since = 1, 1, time.monotonic()

    def cancelled(self) -> bool:
        self._until -= 1
        if self._until > 0:
            return False
        pace = (time.monotonic() - self._since) / self._skip  # seconds a step
        answer = json.dumps([self.listener.cancelled(), max(1, int(_ASK_EVERY / max(pace, 1e-3)))])
        stop, self._skip = json.loads(from_main("cancelled", answer))
        self._until, self._since = self._skip, time.monotonic()
        return stop
