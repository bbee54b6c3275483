"""Many videos by many workers. A worker takes packs that nobody works at, and makes them.

The folder of a batch holds `ID.mp4` and `ID.json` for every video that is done, and `results.jsonl`. While work
goes on, `.work-...`, of a name for each list, holds the leases, the plan, the errors, and the unfinished files of
each worker; the last worker removes it. A worker may be killed at any moment: the rename of `ID.mp4` is what makes
a video done, and whatever else is left is made again.
"""

import dataclasses
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from talkverse_jax.core.compile_cache import count_programs
from talkverse_jax.core.errors import UserError
from talkverse_jax.core.paths import json_text
from talkverse_jax.core.reporting import Reporter
from talkverse_jax.media.video_writer import VideoWriter
from talkverse_jax.pipeline.clip import Clip, State, Timeline
from talkverse_jax.pipeline.events import Events
from talkverse_jax.pipeline.pipeline import Encoded, Pipeline
from talkverse_jax.run.batch.items import Base, read_list
from talkverse_jax.run.batch.leases import MOST_TRIES, Lease, Leases
from talkverse_jax.run.batch.packs import BatchPlan, make_plan
from talkverse_jax.run.batch.results import RESULTS, Results
from talkverse_jax.run.batch.store import open_store
from talkverse_jax.run.options import BatchOptions
from talkverse_jax.run.record import Timed, describe
from talkverse_jax.run.worker import open_writer, write_clip

_LOOK_EVERY = 0.5  # seconds, for work that others leave


def run_batch(pipeline: Pipeline, base: Base, options: BatchOptions, reporter: Reporter) -> int:
    """Make the videos of a list that are not there yet, beside any other workers that do.

    Args:
      pipeline: for packs of `options.batch_size`, that keeps its encoders; its models are loaded when the first
        video is begun.

    Returns:
      how many could not be made; `results.jsonl` says why.

    Raises:
      UserError: the list or the folder cannot be used.
    """
    assert options.batch and options.output_dir  # what BatchOptions sees to
    items = {item.id: item for item in read_list(options.batch, base)}
    results = Results(open_store(options.output_dir), items, options.batch_size, reporter)
    results.begin()
    failed = f", {results.failed} failed" if results.failed else ""
    reporter.say(f"{len(items)} videos, {len(results.found) - results.failed} of them done before{failed}")
    for result in results.found.values():
        if result["state"] == "failed":
            reporter.say(f"{result['id']}: {result['error']}")
    if not results.complete:
        for notice in pipeline.models.notices:
            reporter.say(notice)
        with Leases(results.store, results.folder, options.lease_timeout) as leases:
            Worker(pipeline, results, leases, reporter).run()
    results.report()
    results.store.remove(results.folder)
    done = len(items) - results.failed
    reporter.say(f"{len(items)} videos: {done} done, {results.failed} failed; {options.output_dir}/{RESULTS}")
    return results.failed


@dataclasses.dataclass(frozen=True)
class _Ready:
    """A pack whose files are read and encoded; without the items that failed."""

    lease: Lease
    encoded: dict[str, Encoded]


class Worker:
    """The loop that takes packs and makes them."""

    def __init__(self, pipeline: Pipeline, results: Results, leases: Leases, reporter: Reporter):
        self._pipeline, self._results, self._leases, self._reporter = pipeline, results, leases, reporter
        self._scratch = results.store.scratch(f"{results.folder}/{leases.worker}")
        self._plan = self._find_plan()
        for name, error in self._plan.errors.items():
            if name not in results.found:
                results.fail(name, error)

    def _find_plan(self) -> BatchPlan:
        """The plan that another worker of this list has left, or a new one. Items that could not be used then are
        looked at again."""
        name, store, items = f"{self._results.folder}/plan", self._results.store, self._results.items
        data = store.read(name)
        if data is not None:
            plan = BatchPlan.from_json(data)
            again = make_plan([item for item in items.values() if item.id in plan.errors], self._pipeline.pack)
            return BatchPlan(plan.packs + again.packs, again.errors)
        plan = make_plan(list(items.values()), self._pipeline.pack)
        store.create(name, plan.to_json())
        return plan

    def run(self) -> None:
        """Work until everything is done or failed."""
        results, begin, clips, seconds = self._results, time.monotonic(), 0, 0.0
        bar = self._reporter.bar(len(results.items), "videos", "video", done=len(results.found))
        shown = len(results.found)
        with bar as progress, ThreadPoolExecutor(1, "prepare") as pool:
            for ready in self._prepared(pool):
                for name in self._make(ready):
                    clips += results.found[name]["clips"]
                    seconds += results.found[name]["video_seconds"]
                self._leases.done(ready.lease)
                results.report(now=False)
                progress.update(len(results.found) - shown)
                shown = len(results.found)
                minutes = (time.monotonic() - begin) / 60
                progress.note(f"{clips} clips, {seconds / minutes:.1f} s of video a minute")
        shutil.rmtree(self._scratch, ignore_errors=True)

    def _prepared(self, pool: ThreadPoolExecutor) -> Iterator[_Ready]:
        """Packs to make; the next one is prepared while one is made."""
        waiting: Future[_Ready] | None = None
        while True:
            lease = self._claim()
            following = pool.submit(self._prepare, *lease) if lease else None
            if waiting is not None:
                yield waiting.result()
            elif following is None:
                if self._results.complete:
                    return
                time.sleep(_LOOK_EVERY)
            waiting = following

    def _claim(self) -> tuple[Lease, tuple[str, ...]] | None:
        """A pack that is not done and that nobody works at."""
        found = self._results.found
        self._results.look()
        latest = self._leases.latest()
        for names in self._plan.packs:
            if all(name in found for name in names):
                continue
            key = f"{names[0]}+{len(names)}"
            lease = None if self._leases.holds(key) else self._leases.take(key, latest.get(key))
            if lease is None:
                continue
            if lease.attempt < MOST_TRIES:
                return lease, names
            for name in names:
                if name not in found:
                    self._results.fail(name, f"{MOST_TRIES} workers died over it")
        return None

    def _prepare(self, lease: Lease, names: tuple[str, ...]) -> _Ready:
        """Read and encode; runs beside the denoising of another pack."""
        ready = _Ready(lease, {})
        for name in names:
            job = self._results.items[name].job
            assert job is not None  # or it would be among the plan's errors
            try:
                ready.encoded[name] = self._pipeline.encode(job, Events())
            except Exception as error:  # a bad item is one line, never the end
                self._results.fail(name, _line(error))
        return ready

    def _make(self, ready: _Ready) -> list[str]:
        """Make the videos of a pack and publish each as it is finished; the ids of those that are."""
        if not ready.encoded:
            return []
        events, finished = Timed(Events()), []
        files: dict[str, VideoWriter] = {}
        try:
            with count_programs() as programs:
                for clip, name, timeline in self._clips(ready, files, events):
                    if ready.lease.lost:
                        break
                    if name in self._results.found:
                        continue  # it failed, or another worker has made it
                    encoded = ready.encoded[name]
                    try:
                        with events.phase("writing"):
                            write_clip(files[name], clip, timeline, encoded.job)
                    except UserError as error:
                        self._results.fail(name, _line(error))
                        continue
                    if clip.index + 1 == timeline.clips:
                        spent = events.stopwatch.rounded()
                        record = describe(self._pipeline, encoded, timeline, spent, programs)
                        self._publish(name, files[name], json_text(record).encode())
                        finished.append(name)
        except Exception as error:
            if not ready.lease.lost:
                for name in ready.encoded:
                    if name not in self._results.found:
                        self._results.fail(name, _line(error))
        finally:
            for writer in files.values():
                writer.abandon()
                writer.partial.unlink(missing_ok=True)
        return finished

    def _clips(
        self, ready: _Ready, files: dict[str, VideoWriter], events: Timed
    ) -> Iterator[tuple[Clip, str, Timeline]]:
        """The clips of a pack as they come; opens a file for each video."""
        names, timelines = list(ready.encoded), {}
        # Always the same number, which tells in the last digits: no video depends on what else is in the list.
        states: list[State | None] = [None] * self._pipeline.pack
        for place, (name, encoded) in enumerate(ready.encoded.items()):
            timelines[name] = self._pipeline.timeline(encoded)
            files[name] = open_writer(self._scratch / f"{name}.mp4", encoded, timelines[name])
            states[place] = self._pipeline.start(encoded, events)
        while any(state is not None for state in states):
            # the steps are one work: the first video's events stand for all
            listening = [None if state is None else Events() for state in states]
            listening[next(place for place, state in enumerate(states) if state is not None)] = events
            following: list[State | None] = [None] * len(states)
            for place, clip, state in self._pipeline.advance(states, listening):
                name = names[place]
                if state.clip < timelines[name].clips:
                    following[place] = state
                del state
                yield clip, name, timelines[name]
                del clip
            states = following

    def _publish(self, name: str, writer: VideoWriter, record: bytes) -> None:
        """Finish the file and make it the batch's."""
        writer.finish()
        self._results.store.write(f"{name}.json", record)
        self._results.store.publish(self._scratch / f"{name}.mp4", f"{name}.mp4")
        self._results.look()


def _line(error: Exception) -> str:
    text = str(error).partition("\n")[0]
    return text if isinstance(error, UserError) else f"{type(error).__name__}: {text}"
