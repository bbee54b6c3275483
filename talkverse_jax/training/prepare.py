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

from talkverse_jax.core.errors import UserError, out_of_memory
from talkverse_jax.core.paths import new_folder
from talkverse_jax.core.reporting import Reporter
from talkverse_jax.data import ledger, shards
from talkverse_jax.data.batches import Batch, SampleId, WindowShape
from talkverse_jax.data.catalogue import accept
from talkverse_jax.data.ledger import Ledger, Member
from talkverse_jax.data.loader import batches
from talkverse_jax.data.prepared import PreparedSample, SampleFormat, unstack
from talkverse_jax.data.raw import RawSample, RawSource
from talkverse_jax.data.skipped import Skipped
from talkverse_jax.media.bad_sample import BadSample
from talkverse_jax.pipeline import registry
from talkverse_jax.pipeline.training import FamilyTraining
from talkverse_jax.training.fingerprints import fingerprints
from talkverse_jax.training.prepare_options import PrepareOptions
from talkverse_jax.training.video_options import VideoOptions
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


def divide(members: Sequence[Member], windows: int, size: int) -> list[Shard]:
    """All windows of all videos, in shards of `size`; those of one video lie together.

    Videos that came later are in shards of their own, behind the others. A shard keeps its number when videos of it are
    gone; one that has none left is left out.
    """
    groups: dict[tuple[int, WindowShape], list[Member]] = {}
    for member in members:
        groups.setdefault((member.since, member.shape), []).append(member)
    gone = {member.number for member in members if member.gone}
    parts = []
    for group in sorted(groups):
        ids = [SampleId(window, member.number) for member in groups[group] for window in range(windows)]
        parts += [(group[1], ids[start : start + size]) for start in range(0, len(ids), size)]
    made = [(shape, tuple(id for id in ids if id.sample not in gone)) for shape, ids in parts]
    return [Shard(number, *part) for number, part in enumerate(made) if part[1]]


def prepare(options: PrepareOptions, reporter: Reporter | None = None) -> bool:
    """Make the shards of this process that are missing, and, where all are there, the index.

    Where the videos have changed since the folder was begun, and `--data_changed go_on` is given, what was made of
    those that are still there stays, and the others have shards of their own.

    Returns:
      Whether all are there.

    Raises:
      UserError: an input cannot be used, too many samples cannot be read, or the folder holds samples that were
        made with other flags or weights, or of other videos.
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
    recipe = recipe_of(options, training, configs, encoders, ledger.digest(source.listed))
    recipe, known = _continued(folder, recipe, training.samples, source, catalogue.digest)
    shards.begin(folder, training.samples, recipe)
    known = _follow(folder, known, source, options.videos, reporter)
    accept(cache)
    source = source.numbered(known.places(source.listed))
    everything = divide(known.members, options.input.windows, options.output.shard_size)
    mine = everything[work.process_id :: work.num_processes]
    missing = [shard for shard in mine if not shards.is_complete(folder, shard.number)]
    if missing:
        done = sum(len(shard.ids) for shard in mine if shard not in missing)
        _make(options, training, configs, recipe, folder, source, skipped, missing, done, reporter)
    keys = {member.number: "/".join(member.identity) for member in known.present}
    complete = shards.write_index(folder, [shard.number for shard in everything], keys)
    if complete:
        found = shards.ShardSource(folder, training.samples, configs).records
        size = sum((folder / file).stat().st_size for file in {record.file for record in found})
        reporter.say(f"{folder}: {len(found)} samples in {len(everything)} shards, {size / 1e6:.1f} MB")
    else:
        reporter.say(f"{folder}: the shards of process {work.process_id} are there; those of others are not yet")
    return complete


def _continued(
    folder: Path, recipe: Any, form: SampleFormat, source: RawSource, digest_of_before: str
) -> tuple[Any, Ledger]:
    """The recipe as a folder that is there has it, where its samples are ours, and the samples that it has met."""
    begun, listing = Ledger.of(source.listed), folder / shards.SAMPLES
    if not (folder / shards.META).exists():
        return recipe, begun
    there = shards.read_recipe(folder, form)
    if listing.exists():
        return dataclasses.replace(recipe, samples=there.samples), Ledger.read(listing.read_text(), str(listing))
    if there.samples == digest_of_before:  # begun by an older program
        recipe = dataclasses.replace(recipe, samples=there.samples)
    return recipe, begun


def _follow(folder: Path, known: Ledger, source: RawSource, options: VideoOptions, reporter: Reporter) -> Ledger:
    """The samples of the folder with those that the data have now, written down.

    Raises:
      UserError: they have changed, and the options do not say that it shall go on.
    """
    listed, listing = source.listed, folder / shards.SAMPLES
    if changes := known.changes(listed):
        told = f"{folder}: made from other videos: {changes}"
        if options.data_changed == "stop":
            raise UserError(
                f"{told}; give those, or --data_changed go_on, which makes what has changed; or another --output"
            )
        shards.drop_index(folder)
        known = known.after(listed, returning=False)
        reporter.say(f"{told}; what has changed is made")
    if changes or not listing.exists():
        shards.write_samples(folder, known)
    return known


def recipe_of(
    options: PrepareOptions, training: FamilyTraining, configs: Any, encoders: dict[str, str], samples: str
) -> Any:
    """What samples are made with by these options.

    Args:
      encoders: hashes of the weights, by component.
      samples: hash of the videos.
    """
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
