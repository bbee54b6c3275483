"""What a training or a preparation would do, told before anything is made.

Nothing of the run's folder is changed. Beside it lie what was found out about the videos, which the run then need not
look at again, the list of those that are left out, and a page of samples as the model will see them.
"""

import dataclasses
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from etils import epath

from talkverse_jax.core.errors import UserError
from talkverse_jax.core.paths import new_folder
from talkverse_jax.core.reporting import Reporter
from talkverse_jax.data.batches import SampleId, WindowShape
from talkverse_jax.data.catalogue import VideoEntry
from talkverse_jax.data.ledger import Ledger
from talkverse_jax.data.raw import RawSource
from talkverse_jax.data.skipped import Skipped
from talkverse_jax.data.window_sheet import window_sheet
from talkverse_jax.media.bad_sample import BadSample
from talkverse_jax.media.frame_rate import FPS
from talkverse_jax.pipeline import registry
from talkverse_jax.pipeline.family import Family
from talkverse_jax.plan.plan import plan
from talkverse_jax.plan.report import GB, report
from talkverse_jax.plan.training import TrainingRun
from talkverse_jax.sharding.mesh_config import MeshConfig
from talkverse_jax.sharding.topologies import TOPOLOGIES, Topology
from talkverse_jax.training.checkpoint import Checkpoints, RunRecord
from talkverse_jax.training.feed import Data, open_data
from talkverse_jax.training.history import began_with, follow
from talkverse_jax.training.options import TrainOptions
from talkverse_jax.training.prepare import divide, recipe_of
from talkverse_jax.training.prepare_options import PrepareOptions
from talkverse_jax.training.videos import open_videos

PAGE = "dry_run.png"
_SHOWN = 8  # samples on the page
_NAMED = 3  # of the rows that are left out for one reason


def dry_train(options: TrainOptions, reporter: Reporter) -> None:
    """Tell what a training would do: its samples, steps, memory and time.

    Raises:
      UserError: as the training would.
    """
    family = registry.find(registry.family_of(options.input.weights))
    configs, folder = family.configs_from_weights(options.input.weights), new_folder(options.folder.output_path)
    share = options.videos.max_skipped_share
    lenient = dataclasses.replace(options, videos=dataclasses.replace(options.videos, max_skipped_share=1.0))
    data, record = open_data(lenient, family.training, configs, reporter), _last_record(options)
    _tell_left_out(data.skipped, share, reporter)
    if record:
        if not record.data and began_with(data, record) != record.run["data"]:
            raise UserError(f"{folder}: was begun with other data by an older program; give another --output_path")
        data = follow(data, record, epath.Path(options.folder.checkpoints), options.videos, reporter)
        reporter.say(f"goes on from step {record.step}")
    _tell_shapes(data.plan.shapes, data.source, reporter)
    steps = _tell_steps(options, data, record, reporter)
    if isinstance(data.source, RawSource):
        first = record.batch if record else 0
        ids = (id for number in range(first, first + 20 * _SHOWN) for id in data.plan[number].samples)
        _draw(data.source, ids, folder / PAGE, f"What {folder.name} will be trained on", reporter)
    else:
        reporter.say("no page of samples: shards hold latents; prepare --dry_run draws one")
    _tell_cost(options, family, configs, data.plan.shapes, steps, reporter)


def dry_prepare(options: PrepareOptions, reporter: Reporter) -> None:
    """Tell what a preparation would do: its samples, shards and bytes.

    Raises:
      UserError: as the preparation would, but for what the folder holds.
    """
    weights = options.input.weights
    family = registry.find(registry.family_of(weights))
    training, configs, folder = family.training, family.configs_from_weights(weights), new_folder(options.output.output)
    skipped = Skipped(folder / options.work.own("skipped.jsonl"), share=1.0)
    cache = folder / options.work.own("catalogue.jsonl")
    catalogue, source = open_videos(options.videos, options.settings, training, configs, cache, skipped, reporter)
    _tell_left_out(skipped, options.videos.max_skipped_share, reporter)
    _tell_shapes(dict(enumerate(catalogue.shapes)), source, reporter)
    windows = options.input.windows
    shards = divide(Ledger.of(source.listed).members, windows, options.output.shard_size)
    recipe = recipe_of(options, training, configs, dict.fromkeys(training.samples.encoders, ""), "")
    each = {
        shape: sum(
            math.prod(array.shape) * np.dtype(array.dtype).itemsize
            for array in training.samples.arrays(configs, recipe, shape).values()
            if not (array.stored == "with motion" and shape.kind == "short")
        )
        for shape in set(catalogue.shapes)
    }
    size = windows * sum(each[shape] for shape in catalogue.shapes)
    reporter.say(
        f"{windows * len(catalogue.shapes)} samples in {len(shards)} shards, {size / GB:.2f} GB at most (captions take "
        "what they fill)"
    )
    ids = (SampleId(0, number) for number in range(len(source.entries)))
    _draw(source, ids, folder / PAGE, f"What {folder.name} will hold", reporter)


def _last_record(options: TrainOptions) -> RunRecord | None:
    folder = options.folder.checkpoints
    if "://" not in folder and not Path(folder).exists():
        return None
    checkpoints = Checkpoints(folder, read_only=True)
    try:
        return checkpoints.last_record()
    finally:
        checkpoints.close()


def _tell_left_out(skipped: Skipped, share: float, reporter: Reporter) -> None:
    by_reason = defaultdict(list)
    for skip in skipped.rejected:
        by_reason[skip.reason].append(skip)
    for reason, found in sorted(by_reason.items(), key=lambda each: -len(each[1])):
        names = ", ".join(skip.name + (f" ({skip.detail})" if skip.detail else "") for skip in found[:_NAMED])
        more = f", and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
        reporter.say(f"left out, {reason}: {names}{more}")
    try:
        skipped.check_rows(share)
    except UserError as error:
        reporter.say(f"would stop: {error}")


def _tell_shapes(shapes: Any, source: Any, reporter: Reporter) -> None:
    """A line for each size and kind: how many samples, and how long their videos' scenes are."""
    numbered = dict(shapes.items() if hasattr(shapes, "items") else enumerate(shapes))
    groups: dict[WindowShape, list[int]] = defaultdict(list)
    for number, shape in numbered.items():
        groups[WindowShape(*shape)].append(number)
    for shape, numbers in sorted(groups.items(), key=lambda each: -len(each[1])):
        line = f"{shape.width}x{shape.height} {shape.kind}: {len(numbers)} samples"
        if isinstance(source, RawSource):
            seconds = sorted(_seconds(source.entries[number]) for number in numbers)
            middle = seconds[len(seconds) // 2]
            line += f", scenes of {seconds[0]:.1f} to {seconds[-1]:.1f} s, the middle one {middle:.1f} s"
        reporter.say(line)


def _seconds(entry: VideoEntry) -> float:
    return (entry.scene[1] - entry.scene[0] + 1) / FPS


def _tell_steps(options: TrainOptions, data: Data, record: RunRecord | None, reporter: Reporter) -> int:
    """How many updates there would be; says it."""
    asked, plan_ = options.optimization, data.plan
    batch = record.batch if record else 0
    steps = max(0, plan_.first(asked.num_epochs) - batch) // asked.gradient_accumulation_steps
    if asked.max_steps:
        steps = min(steps, max(0, asked.max_steps - (record.step if record else 0)))
    samples = asked.batch_size * asked.gradient_accumulation_steps
    reporter.say(
        f"{steps} steps of {samples} sample{'s' * (samples > 1)} (--num_epochs {asked.num_epochs}"
        + (f", --max_steps {asked.max_steps}" if asked.max_steps else "")
        + f"); an epoch has {len(plan_.shapes)} samples"
    )
    if steps and asked.warmup_steps >= steps + (record.step if record else 0):
        reporter.say(f"the learning rate never gets to {asked.learning_rate:g}: --warmup_steps {asked.warmup_steps}")
    return steps


def _tell_cost(
    options: TrainOptions, family: Family, configs: Any, shapes: Any, steps: int, reporter: Reporter
) -> None:
    """Memory and time of the largest size, by the plan for this machine."""
    found = shapes.values() if hasattr(shapes, "values") else shapes
    height, width = max(((shape[0], shape[1]) for shape in found), key=math.prod)
    run, topology = TrainingRun(family, configs, options, (height, width)), _machine()
    if topology is None:
        there = jax.devices()
        reporter.say(
            f"memory and time: not known of {len(there)} x {there[0].device_kind}; talkverse-jax plan tells of TPUs"
        )
        return
    mesh = options.machine.mesh
    made = plan(topology, MeshConfig.read(mesh) if mesh else MeshConfig(fsdp=-1), run, reporter=reporter)
    reporter.say(report(made))
    if made.update_seconds:
        reporter.say(f"{steps} steps take {made.update_seconds * steps / 3600:.1f} hours at best")


def _machine() -> Topology | None:
    """This machine among those for which programs can be compiled; None: it is none."""
    devices = jax.devices()
    for topology in TOPOLOGIES.values():
        known = topology.generation
        if known.platform == "cpu" == devices[0].platform:
            return topology
        if known.platform == "tpu" and known.device_kind == devices[0].device_kind and topology.devices == len(devices):
            return topology
    return None


def _draw(source: RawSource, ids: Iterable[SampleId], path: Path, title: str, reporter: Reporter) -> None:
    """The page, with as many shapes as there are among the first samples."""
    chosen = _varied(source, list(ids))
    samples = []
    for id in chosen:
        try:
            samples.append(source.load(id, source.entries[id.sample].shape))
        except BadSample as fault:
            reporter.say(f"{source.name(id.sample)}: cannot be shown: {fault}")
    if not samples:
        return
    count = len({entry.shape for entry in (source.entries[id.sample] for id in chosen)})
    facts = f"{len(samples)} of its first samples" + (f", in {count} sizes and kinds" if count > 1 else "")
    window_sheet(samples, source, path, title, facts)
    reporter.say(f"{path}: {len(samples)} samples as the model sees them")


def _varied(source: RawSource, ids: Sequence[SampleId]) -> list[SampleId]:
    """Samples that come first, each once, but no shape again before every other has had as many."""
    first: dict[int, SampleId] = {}
    for id in ids:
        first.setdefault(id.sample, id)
    counts: Counter[WindowShape] = Counter()
    places = []
    for place, id in enumerate(first.values()):
        shape = source.entries[id.sample].shape
        places.append((counts[shape], place, id))
        counts[shape] += 1
    return [id for _, _, id in sorted(sorted(places)[:_SHOWN], key=lambda each: each[1])]
