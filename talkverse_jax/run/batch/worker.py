"""Many videos by many workers. A worker takes packs that nobody works at, and makes them.

The folder of a batch holds `ID.mp4` and `ID.json` for every video that is done, `results.jsonl`, and `errors/ID.txt`
for every error that nobody foresaw. While work goes on, `.work-...`, of a name for each list, holds the leases, the
plan, the errors, and the unfinished files of each worker; the last worker removes it. A worker may be killed at any
moment: the name of `ID.mp4` is what makes a video done, and whatever else is left is made again.

An item's fault is one failed item. The machine's fault (`faults`) ends the worker, and nothing is noted as failed. Out
of memory may be either: the pack is given back and tried again when the others are done. At its third try it fails,
unless no video came between: then the machine is at fault.
"""

import dataclasses
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from talkverse_jax.core.compile_cache import count_programs
from talkverse_jax.core.errors import UserError, out_of_memory
from talkverse_jax.core.reporting import Reporter
from talkverse_jax.media.media import same_file
from talkverse_jax.media.video_writer import VideoWriter
from talkverse_jax.pipeline import registry
from talkverse_jax.pipeline.clip import Clip, State, Timeline
from talkverse_jax.pipeline.events import Events
from talkverse_jax.pipeline.pipeline import Encoded, Pipeline
from talkverse_jax.run.batch.faults import Failure, line, of_machine, short_of_memory
from talkverse_jax.run.batch.items import Base, read_list
from talkverse_jax.run.batch.leases import Lease, Leases
from talkverse_jax.run.batch.leftovers import clear
from talkverse_jax.run.batch.packs import BatchPlan, make_plan
from talkverse_jax.run.batch.readings import MOST_DEATHS, Readings, died_reading
from talkverse_jax.run.batch.results import RESULTS, Results
from talkverse_jax.run.batch.store import open_store
from talkverse_jax.run.options import BatchOptions
from talkverse_jax.run.record import Timed, describe
from talkverse_jax.run.video import open_writer, write_clip
from talkverse_jax.sharding.distributed import process_count

MOST_TRIES = 10  # of a pack by workers that died
MOST_SHORT = 3  # of a pack, and packs running, for which memory was short
_LOOK_EVERY = 0.5  # seconds, for work that others leave
_PLAN = "plan"  # its lease; those of packs have a + in their names
_FILE = "video.mp4"
_SMALLER = "give it a smaller size_bucket or fewer frames, or the batch a smaller --batch_size"


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
    store = open_store(options.output_dir)
    if (report := store.local(RESULTS)) is not None and same_file(report, options.batch):
        raise UserError(f"{options.batch}: is where the results go; give the list another name")
    results = Results(store, items, options.batch_size, reporter)
    try:
        _work(pipeline, results, options.lease_timeout, reporter)
        results.report()
        results.tidy()
        clear(store, results.folder, options.lease_timeout)
    except Exception as error:
        if fault := of_machine(error, results.check):
            raise fault from None
        raise
    done = len(items) - results.failed
    reporter.say(f"{len(items)} videos: {done} done, {results.failed} failed; {options.output_dir}/{RESULTS}")
    return results.failed


def _work(pipeline: Pipeline, results: Results, timeout: float, reporter: Reporter) -> None:
    results.begin()
    count, failed = len(results.items), f", {results.failed} failed" if results.failed else ""
    reporter.say(f"{count} videos, {len(results.found) - results.failed} of them done before{failed}")
    for result in results.found.values():
        if result["state"] == "failed":
            reporter.say(f"{result['id']}: {result['error']}")
    if not results.complete:
        for notice in pipeline.models.notices:
            reporter.say(notice)
        with Leases(results.store, results.folder, timeout, say=reporter.say) as leases:
            Worker(pipeline, results, leases, reporter).run()


@dataclasses.dataclass(frozen=True)
class _Ready:
    """A pack whose files are read and encoded.

    Attributes:
      encoded: without the items that failed.
      short: why nothing is, where memory was.
    """

    lease: Lease
    names: tuple[str, ...]
    encoded: dict[str, Encoded]
    short: str = ""


class Worker:
    """The loop that takes packs and makes them."""

    def __init__(self, pipeline: Pipeline, results: Results, leases: Leases, reporter: Reporter):
        self._pipeline, self._results, self._leases, self._reporter = pipeline, results, leases, reporter
        self._scratch = results.store.scratch(f"{results.folder}/{leases.worker}")
        self._places = {name: place for place, name in enumerate(results.items)}
        self._short: set[str] = set()  # packs that ran out of memory since a video was finished
        self._large: set[int] = set()  # shapes that did at all
        self._finished = 0
        self._plan = self._find_plan()

    def _find_plan(self) -> BatchPlan:
        """The plan that another worker of this list has left, or a new one. Items that could not be used then are
        looked at again."""
        results, store, folder = self._results, self._results.store, self._results.folder
        if (lease := self._lease_of_plan()) is None:
            return BatchPlan((), {})
        readings = Readings(store, f"{folder}/reading")
        data = store.read(f"{folder}/plan")
        if data is None:
            plan = new = make_plan(list(results.items.values()), self._pipeline.pack, readings)
            store.create(f"{folder}/plan", plan.to_json())
        else:
            plan = BatchPlan.from_json(data)
            again = [item for name, item in results.items.items() if name in plan.errors and name not in results.found]
            new = make_plan(again, self._pipeline.pack, readings)
            plan = plan.joined(new)
        for name, failure in new.errors.items():
            results.fail(name, failure)
        self._leases.give_back(lease, "stopped")
        return plan

    def _lease_of_plan(self) -> Lease | None:
        """One worker reads at a time, so that the deaths of readers can be counted. None: all is done meanwhile."""
        told = False
        while not self._results.complete:
            if lease := self._leases.take(_PLAN, self._leases.latest().get(_PLAN)):
                return lease
            if not told:
                self._reporter.say("waits for another worker, which reads the items' files")
                told = True
            time.sleep(_LOOK_EVERY)
            self._results.look()
        return None

    def run(self) -> None:
        """Work until everything is done or failed.

        Raises:
          MachineFault: no item is to blame.
        """
        results, begin, clips, seconds = self._results, time.monotonic(), 0, 0.0
        shown = len(results.found)
        bar = self._reporter.bar(len(results.items), "videos", "video", done=shown)
        with self._own_folder(), bar as progress, ThreadPoolExecutor(1, "prepare") as pool:
            for ready in self._prepared(pool) if process_count() == 1 else self._one_by_one():
                for name in self._make(ready):
                    clips += results.found[name].get("clips", 0)
                    seconds += results.found[name].get("video_seconds", 0.0)
                self._leases.done(ready.lease)
                results.report(now=False)
                progress.update(len(results.found) - shown)
                shown = len(results.found)
                minutes = (time.monotonic() - begin) / 60
                progress.note(f"{clips} clips, {seconds / minutes:.1f} s of video a minute")

    @contextmanager
    def _own_folder(self) -> Iterator[None]:
        try:
            yield
        finally:
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

    def _one_by_one(self) -> Iterator[_Ready]:
        """Packs to make, where several processes must do all in one order (see `together`)."""
        while (lease := self._claim()) or not self._results.complete:
            if lease:
                yield self._prepare(*lease)
            else:
                time.sleep(_LOOK_EVERY)

    def _claim(self) -> tuple[Lease, tuple[str, ...]] | None:
        """A pack that is not done and that nobody works at; last those for which memory was short."""
        found = self._results.found
        self._results.look()
        latest = self._leases.latest()
        plan = sorted(zip(self._plan.shapes, self._plan.packs), key=lambda pack: pack[0] in self._large)
        for _, names in plan:
            if all(name in found for name in names):
                continue
            key = _key(names)
            lease = None if self._leases.holds(key) else self._leases.take(key, latest.get(key))
            if lease is None:
                continue
            for name in names:
                if (deaths := lease.before.reading[name]) >= MOST_DEATHS:
                    self._results.fail(name, died_reading(deaths))
                elif lease.before.deaths >= MOST_TRIES:
                    self._results.fail(name, Failure(f"{lease.before.deaths} workers died over it"))
            if not all(name in found for name in names):
                return lease, names
            self._leases.done(lease)
        return None

    def _prepare(self, lease: Lease, names: tuple[str, ...]) -> _Ready:
        """Read and encode; runs beside the denoising of another pack."""
        ready = _Ready(lease, names, {})
        for name in names:
            if name in self._results.found:
                continue
            job = self._results.items[name].job
            if job is None:  # another worker's helpers gave what this one's could not
                self._results.fail(name, Failure(self._results.items[name].error or "cannot be made"))
                continue
            self._leases.read(lease, name)
            try:
                inputs = registry.find(job.family).read(job)
                self._leases.read(lease, "")  # loading models may end the worker too
                ready.encoded[name] = self._pipeline.encode(job, Events(), inputs)
            except Exception as error:  # a bad item is one line, never the end
                if fault := of_machine(error):
                    raise fault from None
                if out_of_memory(error):
                    return dataclasses.replace(ready, encoded={}, short=line(error))
                self._results.fail(name, Failure.of(error))
        return ready

    def _make(self, ready: _Ready) -> list[str]:
        """Make the videos of a pack and publish each as it is finished; the ids of those that are."""
        if ready.short:
            self._run_short(ready, ready.short)
        if not ready.encoded:
            return []
        files: dict[str, VideoWriter] = {}
        finished: list[str] = []
        try:
            self._denoise(ready, files, finished)
            return finished
        except Exception as error:
            if fault := of_machine(error, self._results.check):
                raise fault from None
            if out_of_memory(error):
                self._run_short(ready, line(error))
                return finished
            left = [name for name in ready.encoded if name not in self._results.found]
            if not self._leases.keeps(ready.lease):
                return finished
            if len(left) == 1:
                self._results.fail(left[0], Failure.of(error))
        finally:
            for name, writer in files.items():
                writer.abandon()
                shutil.rmtree(self._folder(name), ignore_errors=True)
        for name in left if len(left) > 1 else ():  # it was one of them: each alone
            finished += self._make(dataclasses.replace(ready, encoded={name: ready.encoded[name]}))
        return finished

    def _denoise(self, ready: _Ready, files: dict[str, VideoWriter], finished: list[str]) -> None:
        events = Timed(Events())
        with count_programs() as programs:
            for clip, name, timeline in self._clips(ready, files, events):
                if not self._leases.keeps(ready.lease):
                    return
                if name in self._results.found:
                    continue  # it failed, or another worker has made it
                encoded = ready.encoded[name]
                with self._wall(name):
                    with events.phase("writing"):
                        write_clip(files[name], clip, timeline, encoded.job)
                    if clip.index + 1 == timeline.clips:
                        spent = events.stopwatch.rounded()
                        self._publish(name, files[name], describe(self._pipeline, encoded, timeline, spent, programs))
                        finished.append(name)
                        self._finished += 1
                        self._short.clear()

    @contextmanager
    def _wall(self, name: str) -> Iterator[None]:
        """What goes wrong in the block is one item's failure, unless the machine is at fault, or lacks memory."""
        try:
            yield
        except Exception as error:
            if fault := of_machine(error, self._results.check):
                raise fault from None
            if out_of_memory(error):
                raise
            self._results.fail(name, Failure.of(error))

    def _run_short(self, ready: _Ready, reason: str) -> None:
        """Memory was short: whose fault is it? Another try at the end, or the pack's failure, or the worker's end."""
        key = _key(ready.names)
        tries = ready.lease.before.memory + 1
        self._large.update(shape for shape, names in zip(self._plan.shapes, self._plan.packs) if names == ready.names)
        once_more = key in self._short
        self._short.add(key)
        if tries >= MOST_SHORT:
            for name in ready.names:
                self._results.fail(name, Failure(f"out of memory in {tries} tries ({reason}); {_SMALLER}"))
            return
        self._leases.give_back(ready.lease, "memory")
        if once_more and not self._finished or len(self._short) >= MOST_SHORT:
            raise short_of_memory(reason)
        self._reporter.say(f"{', '.join(ready.names)}: out of memory; tried again after the others")

    def _clips(
        self, ready: _Ready, files: dict[str, VideoWriter], events: Timed
    ) -> Iterator[tuple[Clip, str, Timeline]]:
        """The clips of a pack as they come; opens a file for each video."""
        names, timelines = list(ready.encoded), {}
        # Always the same number, which tells in the last digits: no video depends on what else is in the list.
        states: list[State | None] = [None] * self._pipeline.pack
        for place, (name, encoded) in enumerate(ready.encoded.items()):
            with self._wall(name):
                timelines[name] = self._pipeline.timeline(encoded)
                files[name] = open_writer(self._folder(name) / _FILE, encoded, timelines[name])
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

    def _folder(self, name: str) -> Path:
        """For the unfinished files of a video: of its own, as those of `x` are called what those of `x.partial` are."""
        return self._scratch / str(self._places[name])

    def _publish(self, name: str, writer: VideoWriter, record: dict[str, Any]) -> None:
        """Finish the file and make it the batch's."""
        writer.finish()
        file = self._folder(name) / _FILE
        self._results.place(name, file, record | {"bytes": file.stat().st_size})


def _key(names: tuple[str, ...]) -> str:
    """Of a pack's lease."""
    return f"{names[0]}+{len(names)}"
