"""A live video: clip after clip as its sound comes, for as long as it comes.

One thread fetches the sound, this one makes the video: it waits for the sound of the next clip (silence, where none
comes), has the pipeline advance it, and hands its pictures out as soon as they are decoded. The first two clips are
rehearsed on silence, so that all is compiled before the first sound is due.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
from jaxtyping import Float32

from talkverse_jax.core.errors import UserError
from talkverse_jax.core.memory import anonymous_bytes
from talkverse_jax.media.frame_rate import FPS
from talkverse_jax.media.live_sound import LiveSound
from talkverse_jax.media.live_writer import LiveWriter
from talkverse_jax.pipeline.clip import Clip
from talkverse_jax.pipeline.encoders import SAMPLE_RATE
from talkverse_jax.pipeline.endless import Endless
from talkverse_jax.pipeline.events import Events, PassedOn
from talkverse_jax.pipeline.job import Job
from talkverse_jax.pipeline.live_features import AHEAD, ROW
from talkverse_jax.pipeline.pipeline import Pipeline
from talkverse_jax.run.live.latency import ClipWatch, Tally
from talkverse_jax.run.live.options import Keeping
from talkverse_jax.run.video import NotFinite, not_finite

_REHEARSED = 2  # clips: a first one, and one with a history
_LONGEST_CLIP = 10  # seconds; LiveSound holds more
_AHEAD = round(AHEAD * SAMPLE_RATE)

Blocks = Iterator[Float32[np.ndarray, " n"]]
Report = dict[str, Any]


def stream(
    pipeline: Pipeline,
    job: Job,
    blocks: Callable[[], Blocks],
    writer: Callable[[tuple[int, int]], LiveWriter],
    keeping: Keeping,
    events: Events,
    report: Callable[[Report], None] = lambda figures: None,
) -> Report:
    """Make a live video until its sound ends; the report of all of it.

    Args:
      job: whose picture and settings are used; its sound is not.
      blocks: gives the sound as it comes, 16 kHz mono; called, on a thread of its own, once all is compiled.
      writer: makes what takes the pictures of such a size (H, W), with their sound.
      report: gets the figures of every `keeping.report_every` seconds, and those of all at the end.

    Raises:
      UserError: the family makes no live videos; a file, a setting or the sound cannot be used.
    """
    sound = LiveSound(SAMPLE_RATE, patience=keeping.patience)
    encoded = pipeline.listen(job, sound, events)
    for notice in (*encoded.inputs.notices, *pipeline.models.notices, *encoded.notices):
        events.notice(notice)
    timeline = pipeline.timeline(encoded)
    assert isinstance(timeline, Endless), "live videos have no end"
    if timeline.every > _LONGEST_CLIP * FPS:
        raise UserError(f"a clip of {timeline.every} frames is too long to be live; give at most {_LONGEST_CLIP * FPS}")
    begun = time.monotonic()
    _rehearse(pipeline, pipeline.start(encoded, events), events)
    height, width = encoded.inputs.size
    events.notice(
        f"{width}x{height}, {timeline}, seed {job.seed}; rehearsed in {time.monotonic() - begun:.1f} s. Listening; a "
        f"picture comes {timeline.every / FPS + AHEAD:.2f} s and a clip's work after its sound"
    )
    state = pipeline.start(encoded, events)
    making = _Making(job, timeline, sound, writer((height, width)), keeping, events, report)
    sound.begin()
    fetching = threading.Thread(target=_fetch, args=(blocks, sound), name="live sound", daemon=True)
    fetching.start()
    try:
        while making.next(state.clip):
            [(_, _, state)] = pipeline.advance([state], [making])
    finally:
        sound.close()
        making.close()
    return making.figures()


def _rehearse(pipeline: Pipeline, state: Any, events: Events) -> None:
    silent = _Silent(events)
    for _ in range(_REHEARSED):
        [(_, _, state)] = pipeline.advance([state], [silent])


def _fetch(blocks: Callable[[], Blocks], sound: LiveSound) -> None:
    """Write what comes, to its end."""
    try:
        for block in blocks():
            if not sound.write(block):
                return
        sound.close()
    except BaseException as error:  # it is raised where the sound is waited for
        sound.close(error)


class _Silent(PassedOn):
    """Passes on nothing of clips and steps."""

    def step(self, index: int, count: int) -> None:
        pass

    def decoded(self, clip: Clip) -> None:
        pass


class _Making(PassedOn):
    """Waits for the sound of each clip, and hands out its pictures."""

    def __init__(
        self,
        job: Job,
        timeline: Endless,
        sound: LiveSound,
        writer: LiveWriter,
        keeping: Keeping,
        events: Events,
        report: Callable[[Report], None],
    ):
        super().__init__(events)
        self._job, self._timeline, self._sound, self._writer = job, timeline, sound, writer
        self._keeping, self._report = keeping, report
        self._watch = ClipWatch()
        self._all, self._recent = Tally(), Tally()
        self._begun = self._reported = time.monotonic()
        self._frames = self._written = 0  # frames that are out, samples that are
        self._last, self._shown = False, 0
        self._said_behind = 0.0

    def next(self, clip: int) -> bool:
        """Wait for the sound of a clip; False where no sound is left for one.

        Raises:
          Exception: the source of the sound broke.
        """
        self._settle()
        if self._last:
            return False
        self._keep_up(clip)
        needed = self._timeline.hears(clip) * ROW + _AHEAD
        if not self._sound.wait(needed):
            if self._sound.end <= self._timeline.begins(clip) * ROW:
                return False
            self._last = self._sound.end <= self._timeline.begins(clip + 1) * ROW
        self._watch = ClipWatch()
        first, due = self._sound.due(self._timeline.begins(clip) * ROW), self._sound.due(min(needed, self._sound.end))
        self._watch.seconds |= {"sound": due - first, "queue": time.monotonic() - due}
        return True

    def phase(self, name: str) -> AbstractContextManager[Any]:
        return self._watch.phase(name)

    def decoded(self, clip: Clip) -> None:
        if not clip.finite:
            raise NotFinite(not_finite(clip.index, self._job))
        shown = self._timeline.cut(clip).pictures
        if self._last:
            shown = shown[: -(-self._sound.end // ROW) - self._frames]
        heard = min(self._timeline.hears(clip.index) * ROW + _AHEAD, self._sound.end)
        if self._last:
            heard = self._sound.end
        with self._watch.phase("writing"):
            self._writer.write(shown, self._sound.read(self._written, heard))
        self._watch.shown()
        self._frames, self._shown, self._written = self._frames + len(shown), len(shown), heard
        self._sound.use(heard)

    def _settle(self) -> None:
        """Count the clip that is over."""
        if not self._shown:
            return
        for tally in (self._all, self._recent):
            tally.add(self._watch, self._shown)
        self._shown = 0
        if time.monotonic() - self._reported >= self._keeping.report_every:
            self._tell(self._recent)
            self._recent, self._reported = Tally(), time.monotonic()

    def _keep_up(self, clip: int) -> None:
        """Say that more waits than the next clip needs, and leave it out if that is wished."""
        needed = self._timeline.hears(clip) * ROW + _AHEAD
        behind = (self._sound.end - needed) / SAMPLE_RATE
        if behind <= self._keeping.most_behind:
            if self._said_behind:
                self.notice("caught up with the sound")
            self._said_behind = 0.0
        elif self._keeping.when_behind == "skip":
            dropped = self._sound.drop(round(behind * SAMPLE_RATE)) / SAMPLE_RATE
            self.notice(f"{behind:.1f} s behind the sound: {dropped:.1f} s of it are left out")
        elif behind > 2 * self._said_behind:
            self.notice(f"{behind:.1f} s behind the sound: pictures come that much later (--when_behind wait)")
            self._said_behind = behind

    def close(self) -> None:
        """Finish the video and tell about all of it."""
        self._settle()
        self._writer.close()
        self._tell(self._all)

    def figures(self) -> Report:
        """Of all of it."""
        return self._figures(self._all)

    def _tell(self, tally: Tally) -> None:
        figures = self._figures(tally)
        self._report(figures)
        parts = ", ".join(f"{name} {seconds:.2f}" for name, seconds in figures["parts"].items())
        memory = f"; memory {figures['memory'] / 1e6:.0f} MB" if figures["memory"] else ""
        self.notice(
            f"{figures['seconds']:.0f} s: {figures['frames']} frames, {figures['frames_a_second']:.1f} a second could "
            f"be made; sound to picture {figures['latency']:.2f} s, at most {figures['latency_worst']:.2f} ({parts})"
            f"{memory}"
        )

    def _figures(self, tally: Tally) -> Report:
        return {
            "seconds": round(time.monotonic() - self._begun, 2),
            **tally.figures(),
            "behind": round(max(0.0, self._sound.waiting), 3),
            "silence": round(self._sound.silent, 3),
            "skipped": round(self._sound.dropped, 3),
            "memory": anonymous_bytes(),
            "all": tally is self._all,
        }
