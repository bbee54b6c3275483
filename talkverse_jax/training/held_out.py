"""The loss of samples that are not trained on, at fixed noise levels: the same number for the same weights.

Every sample counts once, with the window and the noise of its own number, at one timestep of each range that the
curves have; nothing is left out. How batches are split over devices changes rounding alone.
"""

import dataclasses
import time
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from talkverse_jax.core import tree
from talkverse_jax.core.compilation import model_jit
from talkverse_jax.core.paths import new_folder
from talkverse_jax.core.reporting import Reporter
from talkverse_jax.data.batches import Batch, BatchOrder, SampleId
from talkverse_jax.diffusion.loss import sample_keys
from talkverse_jax.pipeline.family import Family
from talkverse_jax.pipeline.training import TrainingInputs
from talkverse_jax.sharding.distributed import fetch
from talkverse_jax.sharding.layout import Layout
from talkverse_jax.training.feed import Feed, open_data
from talkverse_jax.training.metrics import RANGES
from talkverse_jax.training.network import Network, lower_precision
from talkverse_jax.training.options import TrainOptions

_PADDING = 1  # the epoch of a sample that only fills a batch


class Once(BatchOrder):
    """Every sample in one batch, by shape and number; the last of a shape is filled up."""

    def batches(self) -> list[Batch]:
        """All of them."""
        found, size = [], self.batch_size
        for shape, group in self._groups.items():
            members = group.tolist()
            for start in range(0, len(members), size):
                ids = [SampleId(0, number) for number in members[start : start + size]]
                ids += [SampleId(_PADDING, members[start])] * (size - len(ids))
                found.append(Batch(len(found), shape, tuple(ids)))
        return found

    def __getitem__(self, number: int) -> Batch:
        every = self.batches()
        return every[number % len(every)]  # what is read ahead is not used


class HeldOut:
    """The samples, encoded and on the devices, and the program that takes their loss.

    Raises:
      UserError: the data cannot be used.
    """

    def __init__(
        self,
        options: TrainOptions,
        family: Family,
        configs: Any,
        network: Network,
        layout: Layout,
        reporter: Reporter,
    ):
        self._network, self._component = network, family.training.component
        self._seed, self._roi = options.videos.seed, options.videos.enable_roi_loss
        self._at = partial(family.training.loss_at, configs, options.settings, self._roi)
        asked = _data_options(options)
        new_folder(asked.folder.output_path)
        data = open_data(asked, family.training, configs, reporter)
        data.accept()
        order = Once(data.plan.shapes, data.plan.batch_size, data.plan.seed)
        workers = 0 if asked.input.shards else options.videos.num_workers
        feed = Feed(dataclasses.replace(data, plan=order), layout, 0, workers, reporter)
        try:
            self._batches = [feed.next(lambda: False) for _ in order.batches()]
        finally:
            feed.close()
        self._program = self._make(layout)
        held = sum(x.nbytes for _, arrays in self._batches for x in jax.tree.leaves(arrays))
        reporter.say(
            f"held-out loss: {len(order.shapes)} samples ({len(self._batches)} batches) at {len(RANGES)} noise levels, "
            f"every {options.curves.held_out_steps} steps; {held / 2**20:.0f} MiB on the devices together"
        )

    def measure(self, params: tree.Flat) -> tuple[dict[str, float], float]:
        """The mean losses by the names of their curves, and how many seconds that took; every process comes here.

        Args:
          params: the trained parameters, by key.
        """
        began = time.perf_counter()
        everywhere: Any = partial(fetch, everywhere=True)
        weights, losses = [], []
        for batch, arrays in self._batches:
            real = np.array([id.epoch != _PADDING for id in batch.samples])
            weights.append(np.asarray(everywhere(arrays.weight)) * real)
            by_level = [self._program(params, self._network.frozen, arrays, jnp.int32(at.center)) for at in RANGES]
            losses.append(np.stack([everywhere(loss) for loss in by_level]))
        weight, loss = np.concatenate(weights), np.concatenate(losses, axis=1).astype(np.float64)
        means = np.where(weight > 0, loss * weight, 0).sum(axis=1) / weight.sum()
        named = {f"held_out/loss_by_noise/{at.name}": float(mean) for at, mean in zip(RANGES, means)}
        return {"held_out/loss": float(means.mean()), **named}, time.perf_counter() - began

    def _make(self, layout: Layout):
        graphdef, name = self._network.graphdef, self._component

        def losses(params: tree.Flat, frozen: Any, batch: TrainingInputs, timestep: Any) -> Float[Array, " B"]:
            model = tree.join(graphdef, params, frozen)
            lower_precision(model)
            found, _ = self._at(timestep)({name: model}, batch, sample_keys(self._seed, batch.ids))
            return found

        return model_jit(losses, out_shardings=layout.sharding())


def _data_options(options: TrainOptions) -> TrainOptions:
    """With the held-out data in place of those that are trained on, and files about it in a folder of its own."""
    path = options.curves.held_out or ""
    shards = None if Path(path).is_file() else (path,)
    bases = options.videos.dataset_base_path
    return dataclasses.replace(
        options,
        input=dataclasses.replace(options.input, shards=shards, dataset_repeat=(1,), dataset_weight=(1.0,)),
        videos=dataclasses.replace(
            options.videos,
            dataset_metadata_path=() if shards else (path,),
            dataset_base_path=bases if len(bases) == 1 else (str(Path(path).parent),),
        ),
        folder=dataclasses.replace(options.folder, output_path=f"{options.folder.output_path}/held_out"),
    )
