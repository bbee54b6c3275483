"""Follows a run: the progress bar, the curves, and the guard over every update.

What an update gave is read when the next one is under way, so that the devices never wait for it.
"""

import dataclasses
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import UInt8

from talkverse_jax.core.reporting import Reporter
from talkverse_jax.data.batches import Batch
from talkverse_jax.sharding.distributed import fetch, is_main
from talkverse_jax.training.feed import Data
from talkverse_jax.training.metrics import HELD_OUT, Interval, Log
from talkverse_jax.training.optimizer import Rates
from talkverse_jax.training.options import TrainOptions
from talkverse_jax.training.step import Metrics, Samples
from talkverse_jax.training.watch import Watch, refuse


@dataclasses.dataclass(frozen=True)
class Update:
    """An update under way on the devices.

    Attributes:
      number: updates made when it is.
      limit: of the norms it believes.
      flops: it takes.
      network: that it changes.
      before: updates of this that were made before.
    """

    number: int
    metrics: Metrics
    batches: list[tuple[Batch, Samples]]
    limit: float
    flops: float
    network: str
    before: int


class Report:
    """What is told of a run; leave the block to end it.

    Args:
      rates, watches: of each network that is trained; the first one's curves have plain names, those of others begin
        with theirs.
      step: updates made before.
      last: updates when the run ends.
      waited: tells how many seconds the devices have waited for data.
      peak: FLOP/s of all devices, where that is known.
      reporter: shows the bar.
    """

    def __init__(
        self,
        options: TrainOptions,
        rates: Mapping[str, Rates],
        data: Data,
        watches: Mapping[str, Watch],
        step: int,
        last: int,
        waited: Callable[[], float],
        peak: float | None,
        reporter: Reporter,
    ):
        self._folder, self._every = Path(options.folder.output_path), options.curves.log_interval
        self._rates, self._data, self._watches, self._peak = rates, data, watches, peak
        self._waited = waited
        self._pending: Update | None = None
        self._intervals, self._pace = self._new_intervals(), _Pace()
        self._began = False
        self._clock = 0.0, 0.0
        self._log = None
        self._ends = ExitStack()
        if is_main():
            self._log = Log(
                self._folder,
                step,
                tensorboard=options.curves.use_tensorboard,
                wandb_project=options.curves.wandb_project if options.curves.use_wandb else None,
                config=options.flat(),
            )
            self._ends.callback(self._log.close)
        self._bar = self._ends.enter_context(reporter.bar(last, "training", "step", step))

    def __enter__(self) -> "Report":
        return self

    def __exit__(self, *_) -> None:
        self._ends.close()

    def push(self, update: Update) -> None:
        """An update that has begun; the one before it is settled.

        Raises:
          UserError: that was not made; see `watch.refuse`.
        """
        self.settle()
        self._pending = update
        if not self._began:  # the first is mostly compilation: it is waited for, and its time is not counted
            self.settle()
            self._began = True
            self.resume()

    def settle(self) -> None:
        """Wait for the last update and take in what it gave.

        Raises:
          UserError: it was not made.
        """
        if self._pending is None:
            return
        update, self._pending = self._pending, None
        everywhere: Any = partial(fetch, everywhere=True)
        norms: dict[Any, float] = {group: float(everywhere(norm)) for group, norm in update.metrics.norms.items()}
        samples = [(batch, jax.tree.map(everywhere, known)) for batch, known in update.batches]
        if not everywhere(update.metrics.applied):
            raise self._refusal(update, norms, samples)
        self._watches[update.network].see(norms)
        interval = self._intervals[update.network]
        interval.add_update(norms, update.before)
        for _, known in samples:
            interval.add_samples(known.loss, known.weight, known.known)
        self._show(update, float(everywhere(update.metrics.loss)))

    def picture(self, step: int, name: str, image: UInt8[np.ndarray, "H W 3"]) -> None:
        """A preview's."""
        if self._log:
            self._log.picture(step, name, image)

    def held_out(self, step: int, values: dict[str, float]) -> None:
        """Losses of samples that are not trained on."""
        if self._log:
            self._log.write(step, values, HELD_OUT)

    def resume(self) -> None:
        """What was done since the last update was settled is no part of training's time."""
        self._clock = time.perf_counter(), self._waited()
        self._bar.resume()

    def _prefix(self, network: str) -> str:
        return "" if network == next(iter(self._rates)) else f"{network}/"

    def _new_intervals(self) -> dict[str, Interval]:
        return {name: Interval() for name in self._rates}

    def _refusal(self, update: Update, norms: dict[str, float], samples: list[tuple[Batch, Samples]]) -> Exception:
        batches = [
            {
                "batch": batch.number,
                "samples": [told | row for told, row in zip(self._data.describe(batch), _rows(known))],
            }
            for batch, known in samples
        ]
        loss: Any = fetch(update.metrics.loss, everywhere=True)
        return refuse(self._folder, update.number, float(loss), norms, update.limit, batches)

    def _show(self, update: Update, loss: float) -> None:
        if self._began:
            (before, waited), now = self._clock, (time.perf_counter(), self._waited())
            self._pace.seconds += now[0] - before
            self._pace.waited += now[1] - waited
            self._pace.samples += sum(len(batch.samples) for batch, _ in update.batches)
            self._pace.flops += update.flops
            self._clock = now
        speed = self._pace.values(self._peak)
        shown = {f"{self._prefix(update.network)}loss": f"{loss:.4f}"}
        if speed:
            shown |= {"samples/s": f"{speed['samples_per_second']:.3g}", "waits": f"{speed['data_wait']:.1%}"}
        self._bar.note(", ".join(f"{name}={value}" for name, value in shown.items()))
        self._bar.update()
        if update.number % self._every == 0:
            self._write(update, speed)
            self._intervals, self._pace = self._new_intervals(), _Pace()

    def _write(self, update: Update, speed: dict[str, float]) -> None:
        if self._log is None:
            return
        batch = update.batches[-1][0]
        values: dict[str, float] = {}
        for name, interval in self._intervals.items():
            of_network = interval.means()
            for group in interval.groups:
                rate = self._rates[name].schedule(group)(interval.before)
                of_network[f"learning_rate/{group}"] = float(np.asarray(rate))
            values |= {self._prefix(name) + key: value for key, value in of_network.items()}
        values |= speed
        values["epoch"] = max(id.epoch for id in batch.samples)
        values["samples"] = (batch.number + 1) * len(batch.samples)
        values |= {f"skipped/{reason}": count for reason, count in self._data.skipped.counts.items()}
        self._log.write(update.number, values)


def _rows(samples: Samples) -> list[dict[str, float]]:
    """What is known of each sample, by name."""
    columns = {**samples.known, "loss": samples.loss, "weight": samples.weight}
    return [dict(zip(columns, row)) for row in zip(*(np.asarray(column).tolist() for column in columns.values()))]


@dataclasses.dataclass
class _Pace:
    """How fast it went since the last line."""

    seconds: float = 0.0
    waited: float = 0.0
    samples: int = 0
    flops: float = 0.0

    def values(self, peak: float | None) -> dict[str, float]:
        if not self.samples:
            return {}
        values = {"samples_per_second": self.samples / self.seconds, "data_wait": self.waited / self.seconds}
        return values | ({"mfu": self.flops / self.seconds / peak} if peak else {})
