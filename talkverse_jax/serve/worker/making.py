"""A job of the server in the process that makes it: its clips as they are asked for, and what is told of them."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from talkverse_jax.core import options
from talkverse_jax.core.errors import UserError, disk_is_full
from talkverse_jax.media.fragments import playable_bytes
from talkverse_jax.media.video_writer import before_file, partial_file
from talkverse_jax.pipeline import registry
from talkverse_jax.pipeline.clip import Clip, State
from talkverse_jax.pipeline.events import Cancelled, Events
from talkverse_jax.pipeline.pipeline import Pipeline
from talkverse_jax.run import resume
from talkverse_jax.run.output import claimed
from talkverse_jax.run.record import Timed, read_record, record_file
from talkverse_jax.run.video import OpenVideo, open_video
from talkverse_jax.serve.jobs.folders import FRAGMENTS, VIDEO
from talkverse_jax.serve.jobs.room import bytes_in
from talkverse_jax.serve.jobs.walls import within
from talkverse_jax.serve.worker.previews import make_variants

Say = Callable[[dict[str, Any]], None]

_WRITING = "writing"  # a phase that is not left in the middle


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
    """A job in work. Whoever has it advances its state (see `pack`).

    Args:
      folder: with its files; the video goes there.
      files, settings: by option; paths are relative to the folder.
      stopping: whether to leave what is in hand; asked at every step.
      keep_fragments: whether what was played while the video was made is still there when it has its name.

    Attributes:
      is_finished: whether the video has its name.
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
        keep_fragments: bool = False,
    ):
        self._keep_fragments = keep_fragments
        self.folder = folder
        self._job, self._pipeline = job, pipeline
        self._output = folder / VIDEO
        module = registry.settings_of(pipeline.family)
        known = {each.name for each in options.describe({"settings": module.Settings})}
        values = {name: value for name, value in settings.items() if name in known}
        values |= {**files, **paths_inside(folder, paths_of(pipeline.family, files))}
        made = pipeline.job(output=str(self._output), **values)
        self._made = replace(made, machine=within(pipeline.machine, settings))
        self._events = _Told(job, say, stopping)
        self._open = ExitStack()
        self._video: OpenVideo | None = None
        self.is_finished = False
        self._done = self._on_disk()

    def has(self, clip: int) -> bool:
        """Whether a clip, numbered from 1, is on the disk."""
        return self.is_finished or clip <= self._done.clips

    def begin(self) -> None:
        """Be ready to be advanced, unless the video is finished; what is left of a job that cannot be gone on with is
        made again.

        Raises:
          Cancelled: it was to be left.
          Exception: see `failures`.
        """
        if self._video is not None or self.is_finished:
            return
        try:
            self._open_video(resume=True)
        except UserError as error:
            if not self._done.clips or disk_is_full(error):
                raise
            resume.discard(self._output)
            self._done = Done(0, ())
            self._open_video(resume=False)

    def _open_video(self, *, resume: bool) -> None:
        with ExitStack() as opening:
            output = opening.enter_context(claimed(self._made))
            events = Timed(self._events)
            opened = open_video(self._pipeline, self._made, output, events, resume=resume, alone=True)
            self._video = opening.enter_context(opened)
            self._open = opening.pop_all()
        self._name_finished()

    @property
    def video(self) -> OpenVideo:
        """To be advanced."""
        assert self._video is not None, "it has not begun, or is finished"
        return self._video

    def take(self, clip: Clip, state: State) -> None:
        """Have a clip on the disk; behind the last one the video gets its name."""
        shown = self.video.take(clip, state)
        self.video.settle()
        assert shown.frames is not None, "one process makes a server's videos"
        self._done = Done(shown.index + 1, (*self._done.frames[: shown.index], len(shown.frames)))
        self._name_finished()

    def _name_finished(self) -> None:
        if self._video is None or self._video.is_done:
            if self._video is not None:
                if self._keep_fragments:
                    self._link_fragments()
                self._video.publish()
            self.close()
            self.is_finished = True

    def _link_fragments(self) -> None:
        link = self.folder / FRAGMENTS
        link.unlink(missing_ok=True)
        os.link(partial_file(self._output), link)

    def clip(self, number: int) -> dict[str, Any]:
        """What is to be told of a clip that is on the disk."""
        frames = sum(self._done.frames[:number]) if number <= self._done.clips else self._record().get("frames", 0)
        return {"say": "clip", "job": self._job, "clip": number, "frames": frames, "playable": self._playable()}

    def _record(self) -> dict[str, Any]:
        return read_record(record_file(self._output)) or {}

    def finish(self) -> dict[str, Any]:
        """Make what belongs to a video that has its name; what is to be told."""
        record = self._record()
        variants = make_variants(self.folder)
        notices = [text for text in record.get("notices", ()) if text not in self._pipeline.models.notices]
        return {
            "say": "finished",
            "job": self._job,
            "timings": record.get("seconds", {}),
            "variants": variants,
            "notices": [text.replace(f"{self.folder}/", "") for text in notices],
            "bytes": bytes_in(self.folder),
        }

    def close(self) -> None:
        """Leave it; its finished clips are on the disk."""
        self._open.close()
        self._video = None

    def _playable(self) -> int:
        places = (partial_file(self._output), before_file(self._output), self.folder / FRAGMENTS)
        return max(map(playable_bytes, places))

    def _on_disk(self) -> Done:
        """What an earlier try has left; damage shows when it is gone on with."""
        try:
            unfinished = resume.load(self._output, self._made, alone=True)
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


def paths_inside(folder: Path, paths: Mapping[str, Any]) -> dict[str, Any]:
    """Options that are paths, from paths relative to the folder."""
    return {name: _inside(folder, value) for name, value in paths.items()}


def _inside(folder: Path, value: Any) -> Any:
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
