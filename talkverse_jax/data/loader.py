"""Batches, one after the other, read ahead by threads or by worker processes (Grain).

A batch is a function of its number, and Grain gives samples in order: what comes out does not depend on how
many threads or workers there are, and after any stop the reading goes on at the number of the next batch.
"""

import multiprocessing
import os
import sys
import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import grain
from absl import flags

from talkverse_jax.core.errors import UserError
from talkverse_jax.data.batches import Batch, SampleId, WindowShape
from talkverse_jax.data.skipped import Skipped
from talkverse_jax.media.bad_sample import BadSample

_RESTARTS = 3  # running, with no batch between them
# Samples each worker has ready; one of 640 x 640 and 193 frames is 237 MB.
_AHEAD = 2


class SampleSource(Protocol):
    """Random access to samples; is sent to the workers by pickling."""

    def name(self, sample: int) -> str:
        """For messages."""
        ...

    def load(self, id: SampleId, shape: WindowShape) -> Any:
        """Read a sample (a tree of arrays).

        Raises:
          BadSample: it cannot be read.
        """
        ...

    def blank(self, id: SampleId, shape: WindowShape) -> Any:
        """What stands for a sample that cannot be read: zeros, of weight 0."""
        ...

    def stack(self, samples: Sequence[Any]) -> Any:
        """A batch."""
        ...


class Numbered(Protocol):
    """Batches by number, without end; `BatchOrder` is one."""

    @property
    def batch_size(self) -> int: ...

    def __getitem__(self, number: int) -> Batch: ...


class Loaded(NamedTuple):
    """A batch, and the samples of this process's rows, stacked by the source."""

    batch: Batch
    samples: Any


def batches(
    source: SampleSource,
    plan: Numbered,
    skipped: Skipped,
    *,
    first: int = 0,
    rows: Sequence[int] | None = None,
    workers: int = 0,
    threads: int = 4,
    say: Callable[[str], None] = lambda _: None,
) -> Generator[Loaded, None, None]:
    """The batches from number `first` on, without end.

    A sample that cannot be read is entered in `skipped`, and a blank one stands in its place. When a worker
    dies, all are started again at the batch that was due, three times running at most. Close the
    iterator to end the workers.

    Args:
      rows: of each batch that this process is given; all by default.
      workers: processes that read; 0 for threads of this one. Under "spawn", on which Grain insists, a program
        that has workers needs the `if __name__ == "__main__"` guard.
      threads: that read, without workers.
      say: is told of a restart.

    Raises:
      UserError: too many samples are skipped, or workers keep dying.
    """
    rows = range(plan.batch_size) if rows is None else rows
    due, deaths = first, 0
    while True:
        try:
            with closing(_samples(source, plan, due, rows, workers, threads)) as samples:
                while True:
                    read, batch = [next(samples) for _ in rows], plan[due]
                    whole = [
                        _or_blank(sample, source, batch.samples[row], batch.shape, skipped)
                        for row, sample in zip(rows, read)
                    ]
                    yield Loaded(batch, source.stack(whole))
                    due, deaths = due + 1, 0
        except RuntimeError as error:
            if "terminated unexpectedly" not in str(error):  # Grain has no type of its own for it
                raise
            deaths += 1
            if deaths > _RESTARTS:
                raise UserError(
                    f"data workers died {deaths} times running at batch {due} ({error.args[0].split('.')[0]}); "
                    "give fewer --num_workers or the machine more memory"
                ) from None
            say(f"a data worker died; reading starts again at batch {due}")


class _Fault(NamedTuple):
    """A `BadSample` on its way from a worker."""

    reason: str
    detail: str
    trace: str


def _or_blank(read: Any, source: SampleSource, id: SampleId, shape: WindowShape, skipped: Skipped) -> Any:
    if not isinstance(read, _Fault):
        skipped.used()
        return read
    skipped.skip(source.name(id.sample), BadSample(*read), id)
    return source.blank(id, shape)


@dataclass(frozen=True, eq=False)
class _Read:
    """Sample number n of the rows of all batches."""

    source: SampleSource
    plan: Numbered
    rows: Sequence[int]

    def __call__(self, number: int) -> Any:
        place, row = divmod(int(number), len(self.rows))
        batch = self.plan[place]
        try:
            return self.source.load(batch.samples[self.rows[row]], batch.shape)
        except Exception as error:  # whatever one sample holds, the epoch goes on
            fault = BadSample.of(error)
            return _Fault(fault.reason, fault.detail, fault.trace)


def _samples(source: SampleSource, plan: Numbered, first: int, rows: Sequence[int], workers: int, threads: int) -> Any:
    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()  # Grain asks absl's flags, and the command line is not absl's
    read = grain.MapDataset.range(first * len(rows), sys.maxsize).map(_Read(source, plan, rows))
    if workers:
        options = grain.ReadOptions(num_threads=1, prefetch_buffer_size=_AHEAD)
        several = grain.MultiprocessingOptions(workers, _AHEAD)
        return iter(read.to_iter_dataset(options).mp_prefetch(several, _end_with_parent))
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=_AHEAD * threads)
    return iter(read.to_iter_dataset(options))


def _end_with_parent(*_) -> None:
    """In a worker: end when the program that started it does, which may be killed; Grain's would stay."""
    parent = multiprocessing.parent_process()
    assert parent is not None, "only a worker comes here"

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
