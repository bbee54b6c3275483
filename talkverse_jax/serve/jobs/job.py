"""What is known of a job of the server: the contract between its front and its queue. Imports no JAX.

Times are Unix seconds. An owner is the name of a key, or "anonymous".
"""

import dataclasses
import re
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, Literal, Protocol

Status = Literal["queued", "in_progress", "completed", "failed"]
ENDED = ("completed", "failed")

# Why a job goes back into the queue.
Requeue = Literal["restart", "drain", "worker_died", "disk_full"]

_ID = re.compile(r"video_[0-9a-f]{32}")


def new_id() -> str:
    """The id of a new job."""
    return f"video_{secrets.token_hex(16)}"


def is_id(text: str) -> bool:
    """Whether a text can be a job's id, and so the name of its folder."""
    return _ID.fullmatch(text) is not None


class Refused(Exception):
    """A request that cannot be served now.

    Attributes:
      status: of HTTP.
      code: of the error.
      message: one line: what is wrong and what to do.
      retry_after: seconds after which to ask again; None where that is no help.
    """

    def __init__(self, status: int, code: str, message: str, retry_after: int | None = None):
        super().__init__(message)
        self.status, self.code, self.message, self.retry_after = status, code, message, retry_after


@dataclasses.dataclass(frozen=True)
class Submission:
    """A job as it is asked for, checked.

    Attributes:
      id: see `new_id`.
      owner: whose it is.
      folder: from `Jobs.folder`, with the job's files; it becomes the job's.
      family: of the models.
      model: as the client is told.
      files: the family's `Files` by option; paths relative to the folder, in lists where the option is one.
      settings: all effective settings by the names of `sample.py`, the seed drawn (`base_seed`), and what was let in of
        its files (see `walls`); the job's `Settings` are made of those that the family knows.
      inputs: what the video object tells of the inputs.
      prompt: that is used.
      original_prompt: the client's, where another is used.
      size: "WIDTHxHEIGHT" in pixels.
      num_frames, clips: of the video.
      seconds: of the video.
      shape: of jobs that can be made together it is the same; None where nobody knows.
      user: kept for the client.
      notices: lines for the person.
      key, digest: of an idempotent request: its key, and a digest of all its fields and bytes.
    """

    id: str
    owner: str
    folder: Path
    family: str
    model: str
    files: Mapping[str, Any]
    settings: Mapping[str, Any]
    inputs: Mapping[str, Any]
    prompt: str
    size: str
    num_frames: int
    clips: int
    seconds: float
    original_prompt: str | None = None
    shape: str | None = None
    user: str | None = None
    notices: tuple[str, ...] = ()
    key: str | None = None
    digest: str | None = None


@dataclasses.dataclass(frozen=True)
class JobFailure:
    """Why a job failed.

    Attributes:
      code: cancelled, generation_failed, not_finite, out_of_memory, worker_died or input_lost.
      message: one line for people.
      param: the request's field that is to blame; None where none is.
    """

    code: str
    message: str
    param: str | None = None


@dataclasses.dataclass(frozen=True)
class Record:
    """A job as it is kept.

    Attributes:
      submission: what was asked for; its folder is where the job's files are.
      created_at, started_at, completed_at: `started_at` of the first try; `completed_at` when it ended, however.
      expires_at: when it goes at the latest; None until it has ended.
      attempt: tries that were begun before the present one.
      clips_done, frames_done: finished, of all tries.
      notices: those of the submission, and of making it.
      failure: why it failed.
      timings: seconds by phase, where it is completed.
    """

    submission: Submission
    status: Status
    created_at: float
    started_at: float | None = None
    completed_at: float | None = None
    expires_at: float | None = None
    attempt: int = 0
    clips_done: int = 0
    frames_done: int = 0
    notices: tuple[str, ...] = ()
    failure: JobFailure | None = None
    timings: Mapping[str, float] | None = None

    @property
    def id(self) -> str:
        return self.submission.id

    @property
    def owner(self) -> str:
        return self.submission.owner

    @property
    def ended(self) -> bool:
        return self.status in ENDED


@dataclasses.dataclass(frozen=True)
class JobEvent:
    """Something that happened to a job and is kept.

    Attributes:
      number: from 1, without gaps; None of one that is not kept (`server`).
      kind: queued, started, clip, notice, requeued; as the last one completed, failed or deleted; or server.
      data: what it tells. Of `completed` and `failed` nothing: whoever sends it puts the video object there.
    """

    number: int | None
    kind: str
    data: Mapping[str, Any]

    @property
    def last(self) -> bool:
        """Whether no event follows."""
        return self.kind in ("completed", "failed", "deleted", "server")


@dataclasses.dataclass(frozen=True)
class Progress:
    """How far a job is now.

    Attributes:
      queue_position: 1 is next; None unless queued.
      phase: loading, encoding, denoising, decoding or writing; None unless in work.
      clip: in work, from 1; None if none is.
      step, steps: denoising steps of this clip that are done, and of how many.
      fraction: denoising steps done of those of all clips, 0 to 1.
      progress: in percent, at most 99 before the job is completed.
      eta: seconds until it ends; None where nobody knows.
    """

    id: str
    status: Status
    queue_position: int | None = None
    phase: str | None = None
    clip: int | None = None
    clips: int = 0
    step: int = 0
    steps: int = 0
    fraction: float = 0.0
    progress: int = 0
    eta: int | None = None


@dataclasses.dataclass(frozen=True)
class Deleted:
    """Stands for a job that an idempotency key is remembered of, and that is gone."""

    id: str


class StoredFile(Protocol):
    """A file, wherever it lies."""

    def open(self) -> BinaryIO:
        """For reading; takes a moment.

        Raises:
          OSError: it cannot be had; FileNotFoundError: it is gone.
        """
        ...


@dataclasses.dataclass(frozen=True)
class VideoFile:
    """A file of a finished job.

    Attributes:
      etag: SHA-256 of its bytes in hex, without quotes.
      modified: when it was made.
    """

    file: StoredFile
    size: int
    etag: str
    modified: float


@dataclasses.dataclass(frozen=True)
class Playable:
    """What can be played of a job by now.

    Attributes:
      file: that holds it; what is read once may be read on, also when the file has lost its name.
      size: bytes from its start that are whole fragments of finished clips.
      ended: whether nothing follows.
      finished: whether it is the finished file, whose bytes are others than those of the fragments.
    """

    file: StoredFile
    size: int
    ended: bool
    finished: bool = False


@dataclasses.dataclass(frozen=True)
class Health:
    """The server's state.

    Attributes:
      state: loading, ready or draining.
      queue_length: waiting jobs.
      running: jobs in work.
      device_id: of the accelerator.
      uptime_seconds: since the server began.
    """

    state: Literal["loading", "ready", "draining"]
    queue_length: int
    running: int
    device_id: int
    uptime_seconds: int
