"""Turns videos into shards of what the training step takes.

Every shard is a fixed list of windows of videos. So a run that was interrupted, however hard, goes on with the
shards that are missing, and processes that know nothing of each other (--num_processes, --process_id) take every
n-th shard and together make the same folder. docs/data.md tells the rest.
"""

import dataclasses
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from talkverse_jax.core.errors import out_of_memory
from talkverse_jax.core.paths import new_folder
from talkverse_jax.core.reporting import Reporter
from talkverse_jax.data import shards
from talkverse_jax.data.batches import Batch, SampleId, WindowShape
from talkverse_jax.data.loader import batches
from talkverse_jax.data.prepared import PreparedSample, unstack
from talkverse_jax.data.raw import RawSample, RawSource
from talkverse_jax.data.skipped import Skipped
from talkverse_jax.media.bad_sample import BadSample
from talkverse_jax.pipeline import registry
from talkverse_jax.pipeline.training import FamilyTraining
from talkverse_jax.training.fingerprints import fingerprints
from talkverse_jax.training.prepare_options import PrepareOptions
from talkverse_jax.training.videos import open_videos
from talkverse_jax.weights import store

# Takes the place of a window where a batch is not full; no run has so many epochs.
_NOBODY = SampleId(2**32 - 1, 0)


class Shard(NamedTuple):
    """Windows of one shape; the epoch of an id is the number of the video's window."""

    number: int
    shape: WindowShape
    ids: tuple[SampleId, ...]

    def batches(self, size: int) -> list[tuple[SampleId, ...]]:
        """The ids in parts of `size`, the last one filled up."""
        parts = [self.ids[start : start + size] for start in range(0, len(self.ids), size)]
        return [part + (_NOBODY,) * (size - len(part)) for part in parts]


def divide(shapes: Sequence[WindowShape], windows: int, size: int) -> list[Shard]:
    """All windows of all videos, in shards of `size`; those of one video lie together."""
    members: dict[WindowShape, list[SampleId]] = {}
    for sample, shape in enumerate(shapes):
        members.setdefault(shape, []).extend(SampleId(window, sample) for window in range(windows))
    parts = [
        (shape, tuple(members[shape][start : start + size]))
        for shape in sorted(members)
        for start in range(0, len(members[shape]), size)
    ]
    return [Shard(number, *part) for number, part in enumerate(parts)]


def prepare(options: PrepareOptions, reporter: Reporter | None = None) -> bool:
    """Make the shards of this process that are missing, and, where all are there, the index.

    Returns:
      Whether all are there.

    Raises:
      UserError: an input cannot be used, too many samples cannot be read, or the folder holds samples that were
        made with other flags or weights.
    """
    reporter, weights, work = reporter or Reporter(), options.input.weights, options.work
    shards.check_local(options.output.output)
    family = registry.find(registry.family_of(weights))
    training, configs = family.training, family.configs_from_weights(weights)
    for notice in store.look_over(weights, options.input.verify):
        reporter.say(notice)
    encoders = fingerprints(weights, training.samples.encoders)
    folder = new_folder(options.output.output)
    skipped = Skipped(folder / work.own("skipped.jsonl"), options.videos.max_skipped_share)
    cache = folder / work.own("catalogue.jsonl")
    catalogue, source = open_videos(options.videos, options.settings, training, configs, cache, skipped, reporter)
    recipe = _recipe(options, training, configs, encoders, catalogue.digest)
    shards.begin(folder, training.samples, recipe)
    everything = divide(catalogue.shapes, options.input.windows, options.output.shard_size)
    mine = everything[work.process_id :: work.num_processes]
    missing = [shard for shard in mine if not shards.is_complete(folder, shard.number)]
    if missing:
        done = sum(len(shard.ids) for shard in mine if shard not in missing)
        _make(options, training, configs, recipe, folder, source, skipped, missing, done, reporter)
    complete = shards.write_index(folder, len(everything))
    if complete:
        found = shards.ShardSource(folder, training.samples, configs).records
        size = sum((folder / file).stat().st_size for file in {record.file for record in found})
        reporter.say(f"{folder}: {len(found)} samples in {len(everything)} shards, {size / 1e6:.1f} MB")
    else:
        reporter.say(f"{folder}: the shards of process {work.process_id} are there; those of others are not yet")
    return complete


def _recipe(
    options: PrepareOptions, training: FamilyTraining, configs: Any, encoders: dict[str, str], samples: str
) -> Any:
    videos = options.videos
    values = dict(
        size_bucket=videos.size_bucket,
        num_frames=videos.num_frames,
        dtype=options.input.dtype,
        roi=videos.enable_roi_loss,
        seed=videos.seed,
        windows=options.input.windows,
        shard_size=options.output.shard_size,
        samples=samples,
    )
    return training.recipe(configs, options.settings, encoders | values)


def _make(
    options: PrepareOptions,
    training: FamilyTraining,
    configs: Any,
    recipe: Any,
    folder: Path,
    source: RawSource,
    skipped: Skipped,
    missing: list[Shard],
    done: int,
    reporter: Reporter,
) -> None:
    videos, size = options.videos, options.work.batch_size
    encoder = training.load_encoder(
        options.input.weights, options.settings, dtype=options.input.dtype, text_on_cpu=videos.t5_cpu
    )
    shards.write_constants(folder, encoder.constants)
    parts = [(shard.shape, ids) for shard in missing for ids in shard.batches(size)]
    order = _Order(size, tuple(Batch(n, *part) for n, part in enumerate(parts)))
    read = batches(_Slots(**vars(source)), order, skipped, workers=videos.num_workers, say=reporter.say)
    total = done + sum(len(shard.ids) for shard in missing)
    with closing(read), reporter.bar(total, "samples", "sample", done) as bar:
        for shard in missing:
            writer = shards.ShardWriter(folder, shard.number)
            arrays = training.samples.arrays(configs, recipe, shard.shape)
            for ids in shard.batches(size):
                for sample in _encoded(encoder, source, next(read).samples, shard.shape, skipped):
                    if _finite(sample):
                        writer.add(sample, arrays, shard.shape)
                    else:
                        skipped.skip(source.name(sample.id.sample), BadSample("encoded to no numbers"), sample.id)
                bar.note(f"skipped={sum(skipped.counts.values())}")
                bar.update(len(ids) - ids.count(_NOBODY))
            writer.finish()


def _encoded(
    encoder: Any, source: RawSource, samples: Any, shape: WindowShape, skipped: Skipped
) -> list[PreparedSample]:
    """The samples of a batch; where it cannot be encoded each is tried alone, and the bad one skipped."""
    try:
        return unstack(encoder.encode(samples))
    except Exception as error:
        if out_of_memory(error) or isinstance(error, OSError):
            raise
    rows = [RawSample(*row) for row in zip(*samples)]
    ids = [SampleId(*map(int, row.id)) for row in rows]
    made = []
    for place in np.flatnonzero(samples.weight):
        alone = [row if number == place else source.blank(ids[number], shape) for number, row in enumerate(rows)]
        try:
            made += unstack(encoder.encode(source.stack(alone)))
        except Exception as error:
            if out_of_memory(error) or isinstance(error, OSError):
                raise
            skipped.skip(source.name(ids[place].sample), BadSample.of(error), ids[place])
    return made


def _finite(sample: PreparedSample) -> bool:
    return all(np.isfinite(np.asarray(array, np.float32)).all() for array in sample.arrays.values())


@dataclasses.dataclass(frozen=True)
class _Order:
    """The batches of the missing shards as the loader takes them: endless, with batches of nobody at the end."""

    batch_size: int
    batches: tuple[Batch, ...]

    def __getitem__(self, number: int) -> Batch:
        if number < len(self.batches):
            return self.batches[number]
        return Batch(number, self.batches[-1].shape, (_NOBODY,) * self.batch_size)


class _Slots(RawSource):
    """Samples of a source, and blank ones in the slots of nobody."""

    def load(self, id: SampleId, shape: WindowShape) -> RawSample:
        return self.blank(id, shape) if id == _NOBODY else super().load(id, shape)
