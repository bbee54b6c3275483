"""What the server tells: videos, pages of them, and events, as frozen dataclasses."""

import dataclasses
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class Video:
    """A video, or the job that makes it. Times are whole Unix seconds.

    Attributes:
      status: queued, in_progress, completed or failed.
      progress: of all its work, in percent; 100 when it is completed.
      seconds: how long it is, as a decimal number.
      size: "WIDTHxHEIGHT" in pixels.
      error: of a failed one, `code`, `message` and `param`.
      prompt: the one used; `original_prompt` is the one given, where the server enhanced it.
      ready_seconds: how much of it can be played by now.
      queue_position: 1 is next; None unless it waits.
      phase: of one in work: loading, encoding, denoising, decoding or writing.
      clip: the one in work, from 1.
      step, steps: denoising steps done in this clip, and all of them.
      settings: all that decided the video, by the names of `talkverse-jax sample`.
      extra: fields that this client does not know.
    """

    id: str
    status: str
    object: str = "video"
    created_at: int | None = None
    completed_at: int | None = None
    expires_at: int | None = None
    progress: int = 0
    model: str = ""
    prompt: str | None = None
    seconds: str | None = None
    size: str | None = None
    error: Mapping[str, Any] | None = None
    remixed_from_video_id: str | None = None
    seed: int | None = None
    fps: int | None = None
    num_frames: int | None = None
    clips: int | None = None
    clips_done: int | None = None
    ready_seconds: float | None = None
    queue_position: int | None = None
    phase: str | None = None
    clip: int | None = None
    step: int | None = None
    steps: int | None = None
    eta_seconds: int | None = None
    started_at: int | None = None
    attempt: int | None = None
    original_prompt: str | None = None
    notices: tuple[str, ...] = ()
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    inputs: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    timings: Mapping[str, Any] | None = None
    extra: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> "Video":
        """The video that a JSON object of the server describes."""
        known = {field.name for field in dataclasses.fields(cls)} - {"extra"}
        values = {name: value for name, value in told.items() if name in known}
        values["notices"] = tuple(values.get("notices") or ())
        return cls(**values, extra={name: value for name, value in told.items() if name not in known})

    @property
    def ended(self) -> bool:
        """Whether it is completed or failed."""
        return self.status in ("completed", "failed")


@dataclasses.dataclass(frozen=True)
class Page:
    """A part of the list of videos; `client.list(after=page.last_id)` is the next one while `has_more`."""

    data: tuple[Video, ...]
    first_id: str | None
    last_id: str | None
    has_more: bool

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> "Page":
        """The page that a JSON object of the server describes."""
        return cls(tuple(map(Video.of, told["data"])), told["first_id"], told["last_id"], told["has_more"])


@dataclasses.dataclass(frozen=True)
class Event:
    """Something that happened to a video.

    Attributes:
      id: its number in the video's life, from 1; None of what is not kept, such as `progress`.
      kind: queued, started, clip, notice, requeued, completed, failed or deleted; progress and server besides.
      data: what the server tells of it; of `completed` and `failed` the video.
    """

    id: int | None
    kind: str
    data: Mapping[str, Any]

    @property
    def last(self) -> bool:
        """Whether none can follow."""
        return self.kind in ("completed", "failed", "deleted")
