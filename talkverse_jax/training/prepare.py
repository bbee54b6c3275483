"""Turn the videos of a data set into shards of latents, audio features, text states and masks, once.

    python -m talkverse_jax.training.prepare --weights WEIGHTS --dataset_metadata_path metadata.csv --output SHARDS

Every shard is a fixed list of windows of videos. So a run that was interrupted, however hard, goes on with the
shards that are missing, and processes that know nothing of each other (--num_processes, --process_id) take every
n-th shard and together make the same folder. docs/data.md tells the rest.
"""

import dataclasses
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from tqdm import tqdm

from talkverse_jax.cli.command import run_command
from talkverse_jax.core import compile_cache
from talkverse_jax.core.errors import UserError
from talkverse_jax.core.options import check_at_least, option, parse_options
from talkverse_jax.core.paths import new_folder
from talkverse_jax.data import shards
from talkverse_jax.data.batches import Batch, SampleId, Shape
from talkverse_jax.data.loader import batches
from talkverse_jax.data.raw import RawSample, RawSource
from talkverse_jax.data.skipped import BadSample, Skipped
from talkverse_jax.families.talkverse.components import ModelConfigs
from talkverse_jax.training.encode import fingerprints, prepared_samples
from talkverse_jax.training.videos import VideoOptions, open_videos

_IN_RECIPE = ("size_bucket", "num_frames", "audio_alignment", "dtype", "seed", "windows", "shard_size")
# Takes the place of a window where a batch is not full; no run has so many epochs.
_NOBODY = SampleId(2**32 - 1, 0)


@dataclasses.dataclass(frozen=True)
class PrepareOptions(VideoOptions):
    """One run of `talkverse_jax.training.prepare`; flags that train.py has too mean the same there."""

    weights: str = option("folder that convert_torch_weights.py wrote", group="input", metavar="DIR")
    output: str = option("folder of the shards; what is missing there is made", group="output", metavar="DIR")
    windows: int = option(
        "windows of each video, each with its reference: those of the first N epochs of a training on videos",
        group="input",
        metavar="N",
        default=1,
    )
    dtype: Literal["bfloat16", "float32"] = option("of what is stored", group="input", default="bfloat16")
    shard_size: int = option("samples of a shard; 15 MB each at 640x640", group="output", metavar="N", default=64)
    batch_size: int = option("windows encoded at once", group="machine", metavar="N", default=1)
    num_processes: int = option(
        "processes, here or elsewhere, that share the work and the folder", group="machine", metavar="N", default=1
    )
    process_id: int = option("which of them this one is, from 0", group="machine", metavar="N", default=0)

    def check(self) -> None:
        """Every check that needs no model and no data.

        Raises:
          UserError: a flag's value cannot be used.
        """
        self.check_videos()
        check_at_least(self, windows=1, batch_size=1, shard_size=1, num_processes=1, process_id=0)
        if self.process_id >= self.num_processes:
            raise UserError(f"--process_id {self.process_id}: give 0 to {self.num_processes - 1}")

    def own(self, name: str) -> str:
        """The name of a file that each process has its own of."""
        if self.num_processes == 1:
            return name
        stem, suffix = name.split(".")
        return f"{stem}-{self.process_id}-of-{self.num_processes}.{suffix}"


class Shard(NamedTuple):
    """Windows of one shape; the epoch of an id is the number of the video's window."""

    number: int
    shape: Shape
    ids: tuple[SampleId, ...]

    def batches(self, size: int) -> list[tuple[SampleId, ...]]:
        """The ids in parts of `size`, the last one filled up."""
        parts = [self.ids[start : start + size] for start in range(0, len(self.ids), size)]
        return [part + (_NOBODY,) * (size - len(part)) for part in parts]


def divide(shapes: Sequence[Shape], windows: int, size: int) -> list[Shard]:
    """All windows of all videos, in shards of `size`; those of one video lie together."""
    members: dict[Shape, list[SampleId]] = {}
    for sample, shape in enumerate(shapes):
        members.setdefault(shape, []).extend(SampleId(window, sample) for window in range(windows))
    parts = [
        (shape, tuple(members[shape][start : start + size]))
        for shape in sorted(members)
        for start in range(0, len(members[shape]), size)
    ]
    return [Shard(number, *part) for number, part in enumerate(parts)]


def prepare(options: PrepareOptions) -> bool:
    """Make the shards of this process that are missing, and, where all are there, the index.

    Returns:
      Whether all are there.

    Raises:
      UserError: an input cannot be used, too many samples cannot be read, or the folder holds samples that were
        made with other flags or weights.
    """
    options.check()
    shards.check_local(options.output)
    configs, weights = ModelConfigs.from_weights(options.weights), fingerprints(options.weights)
    folder = new_folder(options.output)
    skipped = Skipped(folder / options.own("skipped.jsonl"), options.max_skipped_share)
    cache = folder / options.own("catalogue.jsonl")
    catalogue, source = open_videos(options, configs.dit.motion_frames, cache, skipped)
    recipe = shards.Recipe(
        **weights,
        **{name: getattr(options, name) for name in _IN_RECIPE},
        motion_frames=configs.dit.motion_frames,
        roi=options.enable_roi_loss,
        channels=configs.vae.z_dim,
        audio_layers=configs.dit.audio_layers,
        audio_dim=configs.dit.audio_dim,
        motion_latents=configs.dit.motion_latent_frames,
        text_len=configs.dit.trunk.text_len,
        samples=catalogue.digest,
    )
    shards.begin(folder, recipe)
    everything = divide(catalogue.shapes, options.windows, options.shard_size)
    mine = everything[options.process_id :: options.num_processes]
    missing = [shard for shard in mine if not shards.is_complete(folder, shard.number)]
    if missing:
        done = sum(len(shard.ids) for shard in mine if shard not in missing)
        _make(options, folder, source, skipped, missing, done)
    complete = shards.write_index(folder, len(everything))
    if complete:
        found = shards.ShardSource(folder).records
        size = sum((folder / file).stat().st_size for file in {record.file for record in found})
        _say(f"{folder}: {len(found)} samples in {len(everything)} shards, {size / 1e6:.1f} MB")
    else:
        _say(f"{folder}: the shards of process {options.process_id} are there; those of others are not yet")
    return complete


def _make(
    options: PrepareOptions, folder: Path, source: RawSource, skipped: Skipped, missing: list[Shard], done: int
) -> None:
    encoder = options.encoder()
    shards.write_null_text(folder, encoder.null_text)
    parts = [(shard.shape, ids) for shard in missing for ids in shard.batches(options.batch_size)]
    order = _Order(options.batch_size, tuple(Batch(n, *part) for n, part in enumerate(parts)))
    read = batches(_Slots(**vars(source)), order, skipped, workers=options.num_workers, say=_say)
    total = done + sum(len(shard.ids) for shard in missing)
    bar = tqdm(total=total, initial=done, desc="samples", unit="sample", dynamic_ncols=True)
    with closing(read), bar:
        for shard in missing:
            writer = shards.ShardWriter(folder, shard.number)
            for ids in shard.batches(options.batch_size):
                loaded = next(read)
                for sample in prepared_samples(encoder.encode(loaded.samples), loaded.samples.name):
                    if all(np.isfinite(array).all() for array in (sample.target, sample.motion, sample.audio)):
                        writer.add(sample, shard.shape)
                    else:
                        skipped.skip(source.name(sample.id.sample), BadSample("encoded to no numbers"), sample.id)
                bar.set_postfix(skipped=sum(skipped.counts.values()), refresh=False)
                bar.update(len(ids) - ids.count(_NOBODY))
            writer.finish()


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

    def load(self, id: SampleId, shape: Shape) -> RawSample:
        return self.blank(id, shape) if id == _NOBODY else super().load(id, shape)


def _say(line: str) -> None:
    tqdm.write(line, file=sys.stderr)


def main(argv: list[str] | None = None) -> None:
    description = "Turn videos into shards of what the training step takes."
    options = parse_options(PrepareOptions, "talkverse_jax.training.prepare", description, argv)
    compile_cache.enable()
    prepare(options)


if __name__ == "__main__":
    run_command(main)
