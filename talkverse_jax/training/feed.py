"""From videos or shards to the arrays a step takes: opened once, then batch after batch.

Each process reads and encodes the rows of a batch that its devices hold.
"""

import functools
import queue
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import jax
import numpy as np
from jax.sharding import NamedSharding, Sharding
from jaxtyping import Array, Shaped

from talkverse_jax.core.errors import UserError
from talkverse_jax.core.reporting import Reporter
from talkverse_jax.data import ledger
from talkverse_jax.data.batches import Batch, BatchOrder, SampleId
from talkverse_jax.data.catalogue import accept, mixed
from talkverse_jax.data.ledger import Ledger, Listed
from talkverse_jax.data.loader import Loaded, SampleSource, batches
from talkverse_jax.data.mixture import Mixture
from talkverse_jax.data.prepared import PreparedBatch
from talkverse_jax.data.shards import ShardSource
from talkverse_jax.data.skipped import Skipped
from talkverse_jax.media.bad_sample import BadSample
from talkverse_jax.pipeline.training import FamilyTraining, TrainingInputs
from talkverse_jax.sharding.distributed import check_same
from talkverse_jax.sharding.layout import Layout
from talkverse_jax.training.fingerprints import fingerprints
from talkverse_jax.training.options import TrainOptions
from talkverse_jax.training.videos import open_videos

_POLL = 0.002  # seconds


class ListedSource(SampleSource, Protocol):
    """Samples that can be known again."""

    @property
    def listed(self) -> Sequence[Listed]:
        """They, by number."""
        ...

    def numbered(self, places: Mapping[int, int]) -> "ListedSource":
        """The same under other numbers, by the number that each had."""
        ...


class Patient(Skipped):
    """What was skipped; too many raise nothing at once, so that the run can be saved first.

    Attributes:
      stop: why the run should end.
    """

    stop: UserError | None = None

    def skip(self, name: str, fault: BadSample, id: SampleId) -> None:
        try:
            super().skip(name, fault, id)
        except UserError as error:
            self.stop = error


@dataclass(frozen=True)
class Data:
    """What a run is trained on.

    Attributes:
      listed: the samples as the data have them now.
      ledger: under which numbers they are known.
      digest_of_before: by which an older program knew them again.
      encode: stacked samples of some rows, as the source gives them, to what a step takes; in host memory. The
        encoders are loaded when it is first called.
      shared: fields of that which all samples share.
      accept: to be called when the run begins or goes on with them.
    """

    source: ListedSource
    plan: BatchOrder
    listed: Sequence[Listed]
    ledger: Ledger
    skipped: Patient
    digest_of_before: str
    encode: Callable[[Any], TrainingInputs]
    shared: Collection[str]
    accept: Callable[[], None]

    def describe(self, batch: Batch) -> list[dict[str, Any]]:
        """The samples of a batch, for a file that people read."""
        return [{"name": self.source.name(id.sample), "epoch": id.epoch, "sample": id.sample} for id in batch.samples]


def open_data(options: TrainOptions, training: FamilyTraining, configs: Any, reporter: Reporter) -> Data:
    """The data that the options name, under the numbers of a run that begins; every process comes here.

    Args:
      configs: of the family's components.

    Raises:
      UserError: it cannot be used, or too many rows of it.
    """
    place = jax.process_index()
    listed = Path(options.folder.output_path) / ("skipped.jsonl" if place == 0 else f"skipped-{place}.jsonl")
    skipped = Patient(listed, options.videos.max_skipped_share)
    if options.input.shards:
        data = _open_shards(options, training, configs, skipped)
    else:
        data = _open_videos(options, training, configs, skipped, reporter)
    check_same("data", ledger.digest(data.listed))
    return data


def _data(options: TrainOptions, source: ListedSource, **more: Any) -> Data:
    listed = source.listed
    begun = Ledger.of(listed)
    plan = begun.order(options.optimization.batch_size, options.videos.seed)
    return Data(source=source, plan=plan, listed=listed, ledger=begun, **more)


def _open_shards(options: TrainOptions, training: FamilyTraining, configs: Any, skipped: Patient) -> Data:
    videos, sources = options.videos, []
    wanted = training.wanted(configs, options.settings) | {"num_frames": videos.num_frames}
    wanted |= fingerprints(options.input.weights, training.samples.encoders)
    if videos.enable_roi_loss:
        wanted["roi"] = True
    for folder in options.input.shards or ():
        sources.append(ShardSource(folder, training.samples, configs))
        training.samples.require(sources[-1].recipe, folder, **wanted)
    source = sources[0]  # all have its constants, by the same weights

    def encode(samples: PreparedBatch) -> TrainingInputs:
        return training.to_batch(samples, source.constants)

    return _data(
        options,
        Mixture.of(sources, options.repeats, options.weights),
        skipped=skipped,
        digest_of_before=source.digest if len(sources) == 1 and options.repeats == (1,) else "",
        encode=encode,
        shared=training.samples.constants,
        accept=lambda: None,
    )


def _open_videos(
    options: TrainOptions, training: FamilyTraining, configs: Any, skipped: Patient, reporter: Reporter
) -> Data:
    cache = Path(options.folder.output_path) / "catalogue.jsonl"
    found, source = open_videos(options.videos, options.settings, training, configs, cache, skipped, reporter)
    catalogue = mixed(found, options.repeats, options.weights)

    @functools.cache
    def encoder():
        return training.load_encoder(
            options.input.weights,
            options.settings,
            dtype=options.machine.dtype,
            text_on_cpu=options.videos.t5_cpu,
        )

    def encode(samples: Any) -> TrainingInputs:
        return training.to_batch(encoder().encode(samples), encoder().constants)

    return _data(
        options,
        replace(source, entries=catalogue.entries),
        skipped=skipped,
        digest_of_before=catalogue.digest,
        encode=encode,
        shared=training.samples.constants,
        accept=lambda: accept(cache),
    )


class Feed:
    """The batches from number `first` on, read ahead by a thread; close it when the run ends.

    Attributes:
      waited: seconds in which the devices had nothing to do because there was no data.
    """

    def __init__(self, data: Data, layout: Layout, first: int, workers: int, reporter: Reporter):
        self._encode, self._shared, self._size = data.encode, data.shared, data.plan.batch_size
        self._sharding = _batch_sharding(layout, self._size)
        self._rows = local_rows(self._sharding, self._size)
        self._loader = batches(
            data.source, data.plan, data.skipped, first=first, rows=self._rows, workers=workers, say=reporter.say
        )
        self.waited = 0.0
        self._ready: queue.Queue[Loaded | BaseException] = queue.Queue(maxsize=1)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._read, name="feed", daemon=True)
        self._thread.start()

    def next(self, idle: Callable[[], bool]) -> tuple[Batch, TrainingInputs]:
        """The next batch, on the devices.

        Args:
          idle: whether the devices have nothing to do.

        Raises:
          UserError: workers keep dying.
        """
        since, loaded = None, None
        while loaded is None:
            try:
                loaded = self._ready.get(timeout=_POLL)
            except queue.Empty:
                if since is None and idle():
                    since = time.perf_counter()
        if since is not None:
            self.waited += time.perf_counter() - since
        if isinstance(loaded, BaseException):
            raise loaded
        return loaded.batch, self._placed(self._encode(loaded.samples))

    def close(self) -> None:
        """End the workers."""
        self._closed.set()
        self._thread.join()

    def _read(self) -> None:
        try:
            for loaded in self._loader:
                if not self._put(loaded):
                    break
        except BaseException as error:
            self._put(error)
        finally:
            self._loader.close()

    def _put(self, item: Loaded | BaseException) -> bool:
        while not self._closed.is_set():
            try:
                self._ready.put(item, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def _placed(self, batch: TrainingInputs) -> TrainingInputs:
        return batch._replace(
            **{name: self._whole(x) if name in self._shared else self._global(x) for name, x in batch._asdict().items()}
        )

    def _global(self, rows: Shaped[np.ndarray, "rows ..."]) -> Shaped[Array, "B ..."]:
        """An array of which this process has some rows."""
        if self._sharding is None:
            return jax.device_put(rows)

        def part(index: Any) -> np.ndarray:
            start, stop, _ = index[0].indices(self._size)
            at = self._rows.index(start)
            return rows[at : at + stop - start]

        return jax.make_array_from_callback((self._size, *rows.shape[1:]), self._sharding, part)

    def _whole(self, x: Shaped[np.ndarray, "..."]) -> Shaped[Array, "..."]:
        if self._sharding is None:
            return jax.device_put(x)
        everywhere = NamedSharding(self._sharding.mesh, jax.sharding.PartitionSpec())
        return jax.make_array_from_callback(x.shape, everywhere, lambda index: x[index])


def _batch_sharding(layout: Layout, size: int) -> NamedSharding | None:
    """Of arrays that have a batch's samples first; None without a mesh.

    Raises:
      UserError: the mesh does not divide a batch.
    """
    if layout.mesh is None:
        return None
    parts = layout.parts("batch")
    if size % parts:
        raise UserError(
            f"{size}: the mesh splits a batch into {parts} (data x fsdp); give a multiple of that, or --mesh with "
            "fewer devices on these axes and the others on context",
            field="batch_size",
        )
    return layout.sharding("batch")


def local_rows(sharding: Sharding | None, size: int) -> Sequence[int]:
    """The rows of a batch that the devices of this process hold."""
    if sharding is None:
        return range(size)
    parts = sharding.addressable_devices_indices_map((size,)).values()
    return sorted({row for index in parts if index for row in range(*index[0].indices(size))})
