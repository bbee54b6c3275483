"""A job of the server in the process that makes it: clip after clip, and why it failed."""

import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from talkverse_jax.core import options
from talkverse_jax.core.errors import UserError, disk_is_full, out_of_memory
from talkverse_jax.media.fragments import playable_bytes
from talkverse_jax.media.video_writer import before_file, partial_file
from talkverse_jax.pipeline import registry
from talkverse_jax.pipeline.clip import Clip
from talkverse_jax.pipeline.events import Cancelled, Events
from talkverse_jax.pipeline.pipeline import Pipeline
from talkverse_jax.run import resume
from talkverse_jax.run.record import read_record, record_file
from talkverse_jax.run.worker import NotFinite, make_clips
from talkverse_jax.serve.jobs.folders import VIDEO
from talkverse_jax.serve.jobs.room import bytes_in
from talkverse_jax.serve.worker.previews import make_variants

Say = Callable[[dict[str, Any]], None]

_WRITING = "writing"  # a phase that is not left in the middle
_MOST = 500  # characters of a message


@dataclass(frozen=True)
class Done:
    """What of a video is on the disk.

    Attributes:
      clips: that are finished.
      frames: of these, by clip.
    """

    clips: int
    frames: tuple[int, ...]


class Making:
    """A job in work.

    Args:
      folder: with its files; the video goes there.
      files, settings: by option; paths are relative to the folder.
      stopping: whether to leave it.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        job: str,
        folder: Path,
        files: Mapping[str, Any],
        settings: Mapping[str, Any],
        say: Say,
        stopping: Callable[[], bool],
    ):
        self.job, self._folder, self._say = job, folder, say
        self._pipeline = pipeline
        self._output = folder / VIDEO
        module = registry.settings_of(pipeline.family)
        known = {each.name for each in options.describe({"settings": module.Settings})}
        values = {name: value for name, value in settings.items() if name in known}
        paths = {name: _inside(folder, value) for name, value in paths_of(pipeline.family, files).items()}
        values |= {**files, **paths}
        self._made = pipeline.job(output=str(self._output), **values)
        self._events = _Told(job, say, stopping)
        self._clips: Iterator[Clip] | None = None
        self._done = self._on_disk()

    def clip(self, number: int, clips: int) -> dict[str, Any]:
        """Make a clip unless it is there; with the last one the video gets its name. What is to be told of it.

        Args:
          number: from 1.
          clips: of the video.

        Raises:
          Cancelled: it was to be left.
          Exception: see `failure_of`.
        """
        while self._done.clips < number and (clip := next(self._coming(), None)) is not None:
            assert clip.frames is not None, "one process makes a server's videos"
            self._done = Done(clip.index + 1, (*self._done.frames[: clip.index], len(clip.frames)))
        playable = self._playable()
        if number == clips:
            self._name()
        frames = sum(self._done.frames[:number]) if number <= self._done.clips else self._record().get("frames", 0)
        return {"say": "clip", "job": self.job, "clip": number, "frames": frames, "playable": playable}

    def _coming(self) -> Iterator[Clip]:
        if self._clips is None:
            self._clips = self._begin()
        return self._clips

    def _name(self) -> None:
        """Give the video its name, unless it has it."""
        for _ in self._coming():
            pass

    def _record(self) -> dict[str, Any]:
        return read_record(record_file(self._output)) or {}

    def _begin(self) -> Iterator[Clip]:
        """The clips that are missing; what is left of a job that cannot be gone on with is made again."""
        clips = make_clips(self._pipeline, self._made, self._events, resume=True)
        if not self._done.clips:
            yield from clips
            return
        try:
            first = next(clips)
        except UserError as error:
            if disk_is_full(error) or isinstance(error, NotFinite):
                raise
            resume.discard(self._output)
            self._done = Done(0, ())
            clips = make_clips(self._pipeline, self._made, self._events)
            first = next(clips)
        yield first
        yield from clips

    def finish(self) -> dict[str, Any]:
        """Make what belongs to a video that has its name; what is to be told."""
        self._name()
        record = self._record()
        variants = make_variants(self._folder)
        notices = [text for text in record.get("notices", ()) if text not in self._pipeline.models.notices]
        return {
            "say": "finished",
            "job": self.job,
            "timings": record.get("seconds", {}),
            "variants": variants,
            "notices": [text.replace(f"{self._folder}/", "") for text in notices],
            "bytes": bytes_in(self._folder),
        }

    def close(self) -> None:
        """Leave it; its finished clips are on the disk."""
        if self._clips is not None:
            self._clips.close()  # pyright: ignore[reportAttributeAccessIssue]  # it is a generator
            self._clips = None

    def _playable(self) -> int:
        return max(playable_bytes(partial_file(self._output)), playable_bytes(before_file(self._output)))

    def _on_disk(self) -> Done:
        """What an earlier try has left; damage shows when it is gone on with."""
        try:
            unfinished = resume.load(self._output, self._made)
        except UserError:
            resume.discard(self._output)
            return Done(0, ())
        if unfinished is not None:
            return Done(unfinished.clip, unfinished.written)
        return Done(0, ())


def paths_of(family: str, files: Mapping[str, Any]) -> dict[str, Any]:
    """Of a family's files, the options that are paths; others, such as boxes, say what is where in a picture."""
    known = options.describe({"files": registry.settings_of(family).Files})
    return {each.name: files[each.name] for each in known if each.is_path and each.name in files}


def _inside(folder: Path, value: Any) -> Any:
    """A file's path, or several, from a path relative to the folder."""
    if isinstance(value, str):
        return value if value == options.NO_FILE else str(folder / value)
    return value if value is None else tuple(_inside(folder, each) for each in value)


class _Told(Events):
    """Tells the front how far a job is, and leaves it where it was told to."""

    def __init__(self, job: str, say: Say, stopping: Callable[[], bool]):
        self._job, self._say, self._stopping = job, say, stopping

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        if name != _WRITING and self._stopping():
            raise Cancelled
        self._say({"say": "phase", "job": self._job, "phase": name})
        yield

    def planned(self, done: int, count: int | None) -> None:
        self._say({"say": "planned", "job": self._job, "done": done})

    def step(self, index: int, count: int) -> None:
        self._say({"say": "step", "job": self._job, "step": index + 1, "steps": count})

    def cancelled(self) -> bool:
        return self._stopping()


def failure_of(error: Exception, folder: Path) -> dict[str, Any]:
    """What is to be told of an error that ended a job: the client knows nothing of this machine's folders."""
    if disk_is_full(error):
        return {"say": "disk_full"}
    param = error.field if isinstance(error, UserError) else None
    if isinstance(error, NotFinite):
        code, message = "not_finite", "the model gave values that are no numbers; try another seed or fewer steps"
    elif out_of_memory(error):
        code, message = "out_of_memory", "the machine's memory is too small for it; ask for a smaller size"
    elif isinstance(error, UserError):
        code, message = "generation_failed", str(error).replace(f"{folder}/", "").splitlines()[0][:_MOST]
    else:
        code, message = "generation_failed", f"the server failed at it ({type(error).__name__}); its log knows more"
    trace = "" if isinstance(error, UserError) else "".join(traceback.format_exception(error))
    return {"say": "failed", "code": code, "message": message, "param": param, "trace": trace}


def missing_input(folder: Path, files: Mapping[str, Any]) -> str | None:
    """The option of a file that is gone, of those that are paths."""
    for name, value in files.items():
        for path in (value,) if isinstance(value, str) else value or ():
            if path != options.NO_FILE and not (folder / path).is_file():
                return name
    return None
