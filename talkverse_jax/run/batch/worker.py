"""Many videos by many workers: what `sample.py --batch` runs.

The folder of a batch holds `ID.mp4` and `ID.json` for every video that is done, and `results.jsonl`. While work
goes on, `.work-...`, of a name for each list, holds the leases, the plan, the errors, and the unfinished files of
each worker; the last worker removes it. A worker may be killed at any moment: the rename of `ID.mp4` is what makes
a video done, and whatever else is left is made again.
"""

import dataclasses
import hashlib
import json
import shutil
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import numpy as np
from tqdm import tqdm

from talkverse_jax.core.compile_cache import count_programs
from talkverse_jax.core.errors import UserError
from talkverse_jax.core.options import check_at_least
from talkverse_jax.core.paths import json_text
from talkverse_jax.core.stopwatch import Stopwatch
from talkverse_jax.families.talkverse.clips import Clip, generate_clips
from talkverse_jax.families.talkverse.components import ModelConfigs
from talkverse_jax.families.talkverse.inputs import Inputs, read_inputs
from talkverse_jax.media.video_writer import VideoWriter
from talkverse_jax.pipeline.long_sound import sound_features
from talkverse_jax.pipeline.placement import Layouts
from talkverse_jax.run.batch.items import BatchPlan, Item, make_plan, read_list
from talkverse_jax.run.batch.leases import MOST_TRIES, Lease, Leases
from talkverse_jax.run.batch.store import Store, open_store
from talkverse_jax.run.resume import made_from
from talkverse_jax.run.sample_options import SampleOptions
from talkverse_jax.run.worker import (
    Conditions,
    Plan,
    check_models,
    describe,
    encode_prompts,
    load_audio_encoder,
    load_models,
    load_text_encoder,
    open_writer,
    say,
    write_clip,
)
from talkverse_jax.weights.store import read_manifest

RESULTS = "results.jsonl"
_REPORT_EVERY = 20.0  # seconds
_LOOK_EVERY = 0.5  # seconds, for work that others leave


def run_batch(options: SampleOptions) -> int:
    """Make the videos of a list that are not there yet, beside any other workers that do.

    Returns:
      how many could not be made; `results.jsonl` says why.

    Raises:
      UserError: the list, the folder or the weights cannot be used.
    """
    if any(value is not None for value in options.processes):
        raise UserError("--batch: its workers are independent; start each alone, without --coordinator_address")
    if not options.output_dir:
        raise UserError("--batch: needs --output_dir, where the videos go")
    if options.resume:
        raise UserError("--resume: is for single videos; a batch given again makes what is missing")
    check_at_least(options, batch_size=1, lease_timeout=2)
    items = {item.id: item for item in read_list(options.batch, options)}
    models = check_models(options, options.batch_size)
    batch = _Batch(open_store(options.output_dir), items, options)
    batch.look()
    say(f"{len(items)} videos, {len(batch.results)} of them done before")
    if len(batch.results) < len(items):
        with Leases(batch.store, batch.folder, options.lease_timeout) as leases:
            _Worker(options, batch, leases, *models).run()
    batch.report()
    batch.store.remove(batch.folder)
    failed = sum(result["state"] == "failed" for result in batch.results.values())
    say(f"{len(items)} videos: {len(items) - failed} done, {failed} failed; {options.output_dir}/{RESULTS}")
    return failed


class _Batch:
    """The state of a batch in its folder.

    Attributes:
      folder: for what is there while work goes on; another for each list.
      results: of the items that are done or failed, by id.
    """

    def __init__(self, store: Store, items: dict[str, Item], options: SampleOptions):
        self.store, self.items = store, items
        told = [(i.id, i.error, i.options and dataclasses.asdict(i.options)) for i in items.values()]
        digest = hashlib.sha256(json.dumps([options.batch_size, told]).encode()).hexdigest()
        self.folder = f".work-{digest[:12]}"
        self.results: dict[str, dict[str, Any]] = {}
        self._weights = [read_manifest(options.weights), options.lora_ckpt]
        self._reported = -np.inf

    def look(self) -> None:
        """Learn what this worker and others have finished."""
        names, errors = set(self.store.names()), set(self.store.names(f"{self.folder}/errors"))
        for name, item in self.items.items():
            if name in self.results:
                continue
            if f"{name}.mp4" in names:
                self.results[name] = self._done(item)
            elif name in errors:
                error = json.loads(self.store.read(f"{self.folder}/errors/{name}") or b"{}")
                self.results[name] = {"id": name, "state": "failed"} | error

    def _done(self, item: Item) -> dict[str, Any]:
        """The result of an item whose video is there: failed where it is another video."""
        failed = {"id": item.id, "state": "failed"}
        remedy = f"delete {item.id}.mp4 to have it made again, or give the item another id"
        try:
            record = json.loads(self.store.read(f"{item.id}.json") or b"")
        except ValueError:
            return failed | {"error": f"{item.id}.json: missing or damaged; {remedy}"}
        made, asked = record["settings"], item.options.video_settings() if item.options else {}
        if other := [key for key, value in asked.items() if made.get(key) != value]:
            was, now = made.get(other[0]), asked[other[0]]
            return failed | {"error": f"{item.id}.mp4: was made with {other[0]} {was!r}, not {now!r}; {remedy}"}
        if [record["weights"], record["settings"]["lora_ckpt"]] != self._weights:
            return failed | {"error": f"{item.id}.mp4: was made with other weights; {remedy}"}
        seconds = record["seconds"]["total"]
        shown = record["frames"] / record["fps"]
        told = {"video_seconds": shown, "clips": record["clips"], "seconds": seconds}
        return {"id": item.id, "state": "done"} | told

    def fail(self, name: str, error: str) -> None:
        """Note that an item cannot be made."""
        note = {"error": error, "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
        self.store.write(f"{self.folder}/errors/{name}", json.dumps(note).encode())
        self.results[name] = {"id": name, "state": "failed"} | note
        say(f"{name}: {error}")

    def report(self, now: bool = True) -> None:
        """Write `results.jsonl`: a line for every item, in the list's order.

        Args:
          now: also where it was written a moment ago.
        """
        if not now and time.monotonic() - self._reported < _REPORT_EVERY:
            return
        self._reported = time.monotonic()
        lines = [self.results.get(name, {"id": name, "state": "waiting"}) for name in self.items]
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        self.store.write(RESULTS, text.encode())


class _Encoded(NamedTuple):
    """An item whose files are read and encoded."""

    inputs: Inputs
    conditions: Conditions
    notices: list[str]


@dataclasses.dataclass(frozen=True)
class _Ready:
    """A pack whose files are read and encoded; without the items that failed."""

    lease: Lease
    items: dict[str, _Encoded]


class _Worker:
    """One worker: the models, and the loop that takes packs and makes them."""

    def __init__(self, options: SampleOptions, batch: _Batch, leases: Leases, configs: ModelConfigs, layouts: Layouts):
        self._options, self._batch, self._leases, self._configs = options, batch, leases, configs
        self._scratch = batch.store.scratch(f"{batch.folder}/{leases.worker}")
        self._plan = self._find_plan()
        for name, error in self._plan.errors.items():
            if name not in batch.results:
                batch.fail(name, error)
        self._text = load_text_encoder(options, layouts)
        self._audio = load_audio_encoder(options, layouts)
        self._dit, self._vae = load_models(options, layouts)

    def _find_plan(self) -> BatchPlan:
        """The plan that another worker of this list has left, or a new one."""
        name = f"{self._batch.folder}/plan"
        data = self._batch.store.read(name)
        if data is not None:
            return BatchPlan.from_json(data)
        plan = make_plan(list(self._batch.items.values()), self._options.batch_size)
        self._batch.store.create(name, plan.to_json())
        return plan

    def run(self) -> None:
        """Work until everything is done or failed."""
        bar = tqdm(
            total=len(self._batch.items),
            initial=len(self._batch.results),
            desc="videos",
            unit="video",
            dynamic_ncols=True,
            file=sys.stderr,
        )
        begin, made = time.monotonic(), {"clips": 0, "seconds": 0.0}
        with bar, ThreadPoolExecutor(1, "prepare") as pool:
            for ready in self._prepared(pool):
                for name in self._make(ready):
                    result = self._batch.results[name]
                    made["clips"] += result["clips"]
                    made["seconds"] += result["video_seconds"]
                self._leases.done(ready.lease)
                self._batch.report(now=False)
                bar.update(len(self._batch.results) - bar.n)
                minutes = (time.monotonic() - begin) / 60
                bar.set_postfix_str(f"{made['clips']} clips, {made['seconds'] / minutes:.1f} s of video a minute")
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
                if len(self._batch.results) == len(self._batch.items):
                    return
                time.sleep(_LOOK_EVERY)
            waiting = following

    def _claim(self) -> tuple[Lease, tuple[str, ...]] | None:
        """A pack that is not done and that nobody works at."""
        self._batch.look()
        latest = self._leases.latest()
        for names in self._plan.packs:
            if all(name in self._batch.results for name in names):
                continue
            key = f"{names[0]}+{len(names)}"
            lease = None if self._leases.holds(key) else self._leases.take(key, latest.get(key))
            if lease is None:
                continue
            if lease.attempt < MOST_TRIES:
                return lease, names
            for name in names:
                if name not in self._batch.results:
                    self._batch.fail(name, f"{MOST_TRIES} workers died over it")
        return None

    def _prepare(self, lease: Lease, names: tuple[str, ...]) -> _Ready:
        """Read and encode; runs beside the denoising of another pack."""
        ready = _Ready(lease, {})
        with jax.default_matmul_precision(self._options.matmul_precision):
            for name in names:
                options = self._batch.items[name].options
                try:
                    inputs = read_inputs(options)
                    text, negative_text, notices = encode_prompts(self._text, options, self._configs)
                    audio = sound_features(self._audio, inputs.sound, options.audio_window)
                except Exception as error:  # a bad item is one line, never the end
                    self._batch.fail(name, _line(error))
                    continue
                ready.items[name] = _Encoded(inputs, Conditions(text, negative_text, audio), notices)
        return ready

    def _make(self, ready: _Ready) -> list[str]:
        """Make the videos of a pack and publish each as it is finished; the ids of those that are."""
        if not ready.items:
            return []
        stopwatch = Stopwatch("encoding", "denoising", "decoding", "writing")
        files: dict[str, VideoWriter] = {}
        finished: list[str] = []
        try:
            with jax.default_matmul_precision(self._options.matmul_precision), count_programs() as programs:
                for clip, name, plan in self._clips(ready, files, stopwatch):
                    if ready.lease.lost:
                        break
                    if name in self._batch.results:
                        continue  # it failed, or another worker has made it
                    options = self._batch.items[name].options
                    try:
                        with stopwatch.phase("writing"):
                            write_clip(files[name], clip, plan, options)
                    except UserError as error:
                        self._batch.fail(name, _line(error))
                        continue
                    if clip.index + 1 == plan.clips:
                        inputs, _, notices = ready.items[name]
                        made = options, made_from(options), plan, inputs
                        record = describe(*made, self._dit, stopwatch, programs, notices)
                        self._publish(name, files[name], record)
                        finished.append(name)
        except Exception as error:
            if not ready.lease.lost:
                for name in ready.items:
                    if name not in self._batch.results:
                        self._batch.fail(name, _line(error))
        finally:
            for writer in files.values():
                writer.abandon()
                writer.partial.unlink(missing_ok=True)
        return finished

    def _clips(
        self, ready: _Ready, files: dict[str, VideoWriter], stopwatch: Stopwatch
    ) -> Iterator[tuple[Clip, str, Plan]]:
        """The clips of a pack as they come; opens a file for each video."""
        names, plans, subjects = list(ready.items), {}, []
        for name, (inputs, conditions, _) in ready.items.items():
            options = self._batch.items[name].options
            plans[name] = Plan.make(options, inputs.sound.duration, len(conditions.audio))
            files[name] = open_writer(self._scratch / f"{name}.mp4", inputs, options, plans[name])
            subjects.append(conditions.subject(inputs, options.base_seed, plans[name].clips))
        # Always the same number, which tells in the last digits: no video depends on what else is in the list.
        nobody = dataclasses.replace(subjects[0], num_clips=0)
        subjects += [nobody] * (self._options.batch_size - len(subjects))
        settings = options.clip_settings()
        for clip in generate_clips(self._dit, self._vae, subjects, settings=settings, stopwatch=stopwatch):
            yield clip, names[clip.video], plans[names[clip.video]]

    def _publish(self, name: str, writer: VideoWriter, record: dict[str, Any]) -> None:
        """Finish the file and make it the batch's."""
        writer.finish()
        self._batch.store.write(f"{name}.json", json_text(record).encode())
        self._batch.store.publish(self._scratch / f"{name}.mp4", f"{name}.mp4")
        self._batch.look()


def _line(error: Exception) -> str:
    text = str(error).partition("\n")[0]
    return text if isinstance(error, UserError) else f"{type(error).__name__}: {text}"
