"""A run of training, as a plan asks for it."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from talkverse_jax.core import presets
from talkverse_jax.pipeline import registry
from talkverse_jax.pipeline.family import Family
from talkverse_jax.pipeline.programs import Call, Program, Work, shard_bytes
from talkverse_jax.pipeline.training import BatchShape
from talkverse_jax.sharding.layout import Layout
from talkverse_jax.sharding.mesh_config import MeshConfig
from talkverse_jax.sharding.rules import TRAINING
from talkverse_jax.sharding.topologies import Topology
from talkverse_jax.training.options import TrainOptions
from talkverse_jax.training.setup import abstract_batch, abstract_step, network_settings
from talkverse_jax.training.step import Sums

_OPTIMIZERS = {"adamw": "Adam", "adafactor": "Adafactor"}  # as a plan names them


@dataclasses.dataclass(frozen=True)
class TrainingRun:
    """Updates on windows of one size, with motion frames.

    Attributes:
      configs: sizes of the models.
      size: (H, W) in pixels.
    """

    family: Family
    configs: Any
    options: TrainOptions
    size: tuple[int, int]

    @property
    def frames(self) -> int:
        """Of a window, motion frames included."""
        asked = self.options
        lengths = self.family.training.lengths(self.configs, asked.settings, asked.videos.num_frames, True)
        return lengths.window("motion")

    @property
    def strategy(self) -> str:
        """What is trained."""
        tuning = self.options.tuning
        return "everything" if tuning.finetune_all else tuning.unfreeze_strategy

    @property
    def samples(self) -> int:
        """Of an update."""
        return self.options.optimization.batch_size * self.options.optimization.gradient_accumulation_steps

    @property
    def work(self) -> tuple[Work, ...]:
        """Of both programs: the gradients of a batch, and the update."""
        training, options = self.family.training, self.options
        shape = BatchShape(options.optimization.batch_size, options.videos.num_frames, *self.size)
        blocks = network_settings(options, self.family, self.configs).strategy.whole_blocks
        return (
            Work(
                "gradients",
                training.flops(self.configs, options.settings, shape, blocks),
                options.optimization.gradient_accumulation_steps,
                "update",
                training.component,
                float32=options.machine.dtype == "float32",
            ),
            Work("update", 0, 1, "update", training.component, float32=True),
        )

    @property
    def heads(self) -> int:
        """Of the transformer."""
        return self.family.heads(self.configs)

    @property
    def dtype(self) -> str:
        """Of matrix products."""
        return self.options.machine.dtype

    @property
    def matmul_precision(self) -> str:
        """Of float32 products."""
        return self.options.machine.matmul_precision

    @property
    def unit(self) -> str:
        """What its time is told for."""
        return f"an update of {self.samples} sample{'s' * (self.samples > 1)}"

    def default_mesh(self, topology: Topology) -> MeshConfig:
        """What training chooses anywhere."""
        return MeshConfig(fsdp=-1)

    def programs(self, mesh: Mesh) -> list[Program]:
        """To be compiled for the devices of a mesh."""
        options, layout = self.options, Layout(mesh, TRAINING)
        step, states = abstract_step(options, self.family, self.configs, layout)
        [(name, state)] = states.items()
        frozen, batch = step.frozen, abstract_batch(options, self.family, self.configs, self.size, layout)
        scalar: Any = jax.ShapeDtypeStruct((), jnp.float32, sharding=layout.sharding())
        sums = Sums(state.params, scalar, scalar)
        gradients, update = step.programs(layout.platform)
        # what the last batches of an update find; the first one begins the sums
        given = {"sums": sums if options.optimization.gradient_accumulation_steps > 1 else None}
        average = {"average": _bytes(state.ema)} if options.tuning.ema_decay else {}
        of_gradients, of_update = self.work
        return [
            Program(
                of_gradients,
                lambda: Call(gradients, ({name: state.params}, frozen, batch), given),
                weights=_bytes((state.params, frozen)),
                beside={_OPTIMIZERS[options.optimization.optimizer]: _bytes(state.optimizer), **average},
            ),
            Program(
                of_update,
                lambda: Call(update, (), {"state": state, "sums": sums, "limit": scalar}),
                weights=_bytes(state.params),
                beside={"not trained": _bytes(frozen)},
            ),
        ]

    def as_json(self) -> dict[str, Any]:
        """What is trained, by name."""
        options = self.options
        return {
            "height": self.size[0],
            "width": self.size[1],
            "frames": self.frames,
            "batch": options.optimization.batch_size,
            "accumulation": options.optimization.gradient_accumulation_steps,
            "strategy": self.strategy,
            "remat": options.machine.remat,
        }

    def __str__(self) -> str:
        asked, (height, width) = self.options.optimization, self.size
        batches = asked.gradient_accumulation_steps
        batch = f"batch {asked.batch_size}" + (f" x {batches}" if batches > 1 else "")
        remat = self.options.machine.remat
        return f"{width}x{height}, {self.frames} frames, {self.strategy}, {batch}, remat {remat}"


def training_options(path: str | Path, family: str) -> TrainOptions:
    """The options of a config of training; its data is not needed.

    Raises:
      UserError: the file is none, or an option cannot be used.
    """
    no_data: dict[str, Any] = dict(weights="", shards="-", dataset_metadata_path=[])
    values = presets.read(path)
    values.pop("family", None)
    return TrainOptions.build(registry.settings_of(family), values | no_data, str(path))


def _bytes(arrays: Any) -> int:
    return sum(map(shard_bytes, jax.tree.leaves(arrays)))
