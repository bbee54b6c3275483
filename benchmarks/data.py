"""Samples a second from videos and from shards, and the share of a training step spent waiting for them.

    JAX_PLATFORMS=cpu taskset -c 0,1 python benchmarks/data.py

At tiny size (configs/model_tiny.toml, 128x128, windows of 193 frames as in a real training) on a CPU. Weights are
random; the videos, ten seconds of 480x360 with sound, are made on the spot.

A step is timed with a batch that is there, and in turns with it in the training loop's own feed, so that what the
reading costs is the difference: waiting, and what it takes from the step's processors.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from statistics import median

import jax
from tqdm import tqdm

from talkverse_jax.cli.command import run_command
from talkverse_jax.cli.progress import TerminalReporter
from talkverse_jax.convert.convert import convert
from talkverse_jax.convert.options import ConvertOptions
from talkverse_jax.convert.random_checkpoint import write_random_checkpoint
from talkverse_jax.core.paths import new_folder
from talkverse_jax.data.loader import Loaded, batches
from talkverse_jax.data.skipped import Skipped
from talkverse_jax.families.talkverse import settings
from talkverse_jax.families.talkverse.components import ModelConfigs
from talkverse_jax.families.talkverse.family import FAMILY
from talkverse_jax.families.talkverse.settings import Sources
from talkverse_jax.sharding.layout import Layout
from talkverse_jax.training.feed import Data, Feed, open_data
from talkverse_jax.training.networks import load
from talkverse_jax.training.objective import objective_of
from talkverse_jax.training.options import TrainOptions
from talkverse_jax.training.prepare import prepare
from talkverse_jax.training.prepare_options import PrepareOptions
from talkverse_jax.training.state import States
from talkverse_jax.training.step import TrainingStep

ROOT = Path(__file__).resolve().parents[1]
WARM = 2  # samples or steps before the clock starts
TURN = 8  # steps of one kind before it is the other's turn


def main() -> None:
    parser = argparse.ArgumentParser(description="Time reading, encoding and waiting at tiny size.")
    parser.add_argument("--folder", metavar="DIR", help="scratch (default: a temporary one)")
    parser.add_argument("--videos", metavar="N", type=int, default=16)
    parser.add_argument("--frames", metavar="N", type=int, default=120, help="to be learnt (default: 120)")
    parser.add_argument("--samples", metavar="N", type=int, default=24, help="to read; of shards 20 times as many")
    parser.add_argument("--turns", metavar="N", type=int, default=5, help=f"of {TURN} steps each (default: 5)")
    parser.add_argument("--json", metavar="FILE", help="the figures")
    args = parser.parse_args()
    if args.folder:
        new_folder(args.folder)
    with tempfile.TemporaryDirectory(dir=args.folder) as scratch:
        figures = measure(Path(scratch), args.videos, args.frames, args.samples, args.turns)
    if args.json:
        Path(args.json).write_text(json.dumps(figures, indent=1) + "\n")


def measure(folder: Path, videos: int, frames: int, samples: int, turns: int) -> dict[str, float]:
    """All figures by name; each is printed as soon as it is known."""
    figures: dict[str, float] = {}

    def note(name: str, value: float) -> None:
        figures[name] = value
        print(f"{name}: {value:.4g}", flush=True)

    configs = FAMILY.configs_from_toml(ROOT / "configs" / "model_tiny.toml")
    weights = make_weights(folder, configs)
    make_videos(folder / "data", videos)
    common = dict(weights=str(weights), size_bucket="tiny-128", num_frames=frames)
    source = dict(
        dataset_metadata_path=(str(folder / "data" / "metadata.csv"),), dataset_base_path=str(folder / "data")
    )
    begin = time.perf_counter()
    asked = dict(common, **source, output=str(folder / "shards"), num_workers=0)
    prepare(PrepareOptions.build(settings, asked, "benchmark"), TerminalReporter())
    note("prepare, compilation included: samples/s", videos / (time.perf_counter() - begin))
    common |= dict(output_path=str(folder / "run"), use_tensorboard=False)
    opened = {}
    for kind, which in (("videos", source), ("shards", dict(shards=str(folder / "shards")))):
        train = TrainOptions.build(settings, common | which, "benchmark")
        opened[kind] = open_data(train, FAMILY.training, configs, TerminalReporter())
    raw, shards = opened["videos"], opened["shards"]
    size = sum(path.stat().st_size for path in (folder / "shards").glob("*.array_record"))
    note("shards: MB a sample", size / 1e6 / videos)

    for workers in (0, 2):
        who = f"{workers} workers" if workers else "threads"
        note(f"videos, {who}: samples/s", reading_rate(raw, samples, workers))
        note(f"shards, {who}: samples/s", reading_rate(shards, 20 * samples, workers))
    note("encoding alone: samples/s", encoding_rate(raw))

    programs, states = make_step(train, configs)
    for name, data, workers, count in (("shards", shards, 0, turns), ("videos", raw, 1, 1)):
        alone, fed, waited = share_of_waiting(data, workers, programs, states, count)
        note(f"{name}: seconds a step alone", alone)
        note(f"{name}: seconds a step in the loop", fed)
        note(f"{name}: share of a step that the data cost", 1 - alone / fed)
        note(f"{name}: share of a step that the devices waited", waited / fed)
    return figures


def make_weights(folder: Path, configs: ModelConfigs) -> Path:
    """Random ones, converted."""
    checkpoint = write_random_checkpoint(FAMILY, folder / "published", configs, seed=0)
    sources = Sources(**{name: str(path) for name, path in checkpoint.items()})
    convert(FAMILY, ConvertOptions(output=str(folder / "weights")), sources, configs)
    return folder / "weights"


def make_videos(folder: Path, videos: int) -> None:
    sys.path.insert(0, str(ROOT))
    from tests.videos import write_dataset

    write_dataset(folder, videos, 10.0, (360, 480), masks=False)


def _reading(data: Data, workers: int) -> Iterator[Loaded]:
    return batches(data.source, data.plan, Skipped(None), workers=workers, threads=os.cpu_count() or 1)


def reading_rate(data: Data, samples: int, workers: int) -> float:
    """Samples a second that the loader gives when nobody does anything else."""
    with closing(_reading(data, workers)) as read:
        for _ in range(WARM + 2 * workers):  # and what the workers had ready
            next(read)
        begin = time.perf_counter()
        for _ in islice(read, samples):
            pass
        return samples / (time.perf_counter() - begin)


def encoding_rate(data: Data, repeats: int = 3) -> float:
    """Samples a second through VAE, wav2vec2 and (from its memory of captions) UMT5."""
    with closing(_reading(data, 0)) as read:
        loaded = next(read)
    data.encode(loaded.samples)
    begin = time.perf_counter()
    for _ in range(repeats):
        data.encode(loaded.samples)
    return repeats * len(loaded.batch.samples) / (time.perf_counter() - begin)


def make_step(options: TrainOptions, configs: ModelConfigs) -> tuple[TrainingStep, States]:
    component = FAMILY.components[FAMILY.training.component]
    objective = objective_of(options, FAMILY, configs)
    networks = load(objective, component, Layout())
    return networks.step(objective, options.videos.seed), networks.begin()


def share_of_waiting(
    data: Data, workers: int, programs: TrainingStep, states: States, turns: int
) -> tuple[float, float, float]:
    """Median seconds a step with a batch that is there, in the training loop's feed, and of those the seconds
    that the devices waited."""
    states = jax.tree.map(jax.numpy.copy, states)  # an update reuses the buffers of the state it is given
    latest = next(iter(states.values())).step

    def step(batch) -> None:
        nonlocal states, latest
        sums, samples = programs.add_gradients(0, states, batch)
        latest = samples.loss
        states, metrics = programs.update(0, states, sums)
        latest = metrics.loss

    def turn(next_batch) -> float:
        begin = time.perf_counter()
        for _ in range(TURN):
            step(next_batch())
        jax.block_until_ready(latest)
        return (time.perf_counter() - begin) / TURN

    feed = Feed(data, Layout(), 0, workers, TerminalReporter())
    with closing(feed):
        from_feed = lambda: feed.next(lambda: latest.is_ready())[1]  # noqa: E731
        kept = from_feed()
        for _ in range(WARM):
            step(kept)
            step(from_feed())
        jax.block_until_ready(latest)
        alone, fed, waited = [], [], []
        for _ in tqdm(range(turns), "turns", leave=False):
            alone.append(turn(lambda: kept))
            before = feed.waited
            fed.append(turn(from_feed))
            waited.append((feed.waited - before) / TURN)
    return median(alone), median(fed), median(waited)


if __name__ == "__main__":
    run_command(main)
