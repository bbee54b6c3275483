"""A run of training, as a plan asks for it."""

import dataclasses
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from talkverse_jax.core import presets
from talkverse_jax.pipeline import registry
from talkverse_jax.pipeline.family import Family
from talkverse_jax.pipeline.programs import Call, Program, Work, shard_bytes
from talkverse_jax.sharding.layout import Layout
from talkverse_jax.sharding.mesh_config import MeshConfig
from talkverse_jax.sharding.rules import TRAINING
from talkverse_jax.sharding.topologies import Topology
from talkverse_jax.training.networks import of_shapes
from talkverse_jax.training.objective import Objective, objective_of, phase_flops
from talkverse_jax.training.options import TrainOptions
from talkverse_jax.training.setup import abstract_batch
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
        what = "everything" if tuning.finetune_all else tuning.unfreeze_strategy
        return f"{what}, distilled" if self.options.distil.distils else what

    @property
    def samples(self) -> int:
        """Of an update."""
        return self.options.optimization.batch_size * self.options.optimization.gradient_accumulation_steps

    @property
    def work(self) -> tuple[Work, ...]:
        """Of each network's two programs: the gradients of a batch, and the update."""
        options, objective, found = self.options, self._objective, []
        float32, batches = options.machine.dtype == "float32", options.optimization.gradient_accumulation_steps
        component = self.family.training.component
        for number, phase in enumerate(objective.phases):
            flops = phase_flops(objective, number, options, self.family, self.configs, self.size)
            of = f", {phase.network}" if len(objective.rates) > 1 else ""
            found += [
                Work(f"gradients{of}", flops, phase.repeats * batches, "update", component, float32=float32),
                Work(f"update{of}", 0, phase.repeats, "update", component, float32=True),
            ]
        return tuple(found)

    @property
    def _objective(self) -> Objective:
        return objective_of(self.options, self.family, self.configs, read=False)

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
        updates = sum(phase.repeats for phase in self._objective.phases)
        what = "an update" if updates == 1 else f"a round of {updates} updates"
        return f"{what} of {self.samples} sample{'s' * (self.samples > 1)}"

    def default_mesh(self, topology: Topology) -> MeshConfig:
        """What training chooses anywhere."""
        return MeshConfig(fsdp=-1)

    def programs(self, mesh: Mesh) -> list[Program]:
        """To be compiled for the devices of a mesh."""
        options, layout = self.options, Layout(mesh, TRAINING)
        objective = self._objective
        component = self.family.components[self.family.training.component]
        networks = of_shapes(objective, component, getattr(self.configs, component.name), layout)
        step, states = networks.step(objective, options.videos.seed), networks.states
        frozen, batch = step.frozen, abstract_batch(options, self.family, self.configs, self.size, layout)
        scalar: Any = jax.ShapeDtypeStruct((), jnp.float32, sharding=layout.sharding())
        params = {name: state.params for name, state in states.items()}
        made = []
        for number, (phase, of_gradients, of_update) in enumerate(
            zip(objective.phases, self.work[::2], self.work[1::2], strict=True)
        ):
            state = states[phase.network]
            sums = Sums(state.params, scalar, scalar)
            gradients, update = step.programs(layout.platform, number)
            # what the last batches of an update find; the first one begins the sums
            given = {"sums": sums if options.optimization.gradient_accumulation_steps > 1 else None}
            other = {name: each for name, each in states.items() if name != phase.network}
            beside = {
                _OPTIMIZERS[options.optimization.optimizer]: _bytes([each.optimizer for each in states.values()]),
                "average": _bytes([each.ema for each in states.values()]),
            }
            waiting = {"not trained": _bytes(frozen), **{f"the {name}": _bytes(each) for name, each in other.items()}}
            made += [
                Program(
                    of_gradients,
                    partial(Call, gradients, (params, frozen, batch), given),
                    weights=_bytes((params, frozen)),
                    beside={name: size for name, size in beside.items() if size},
                ),
                Program(
                    of_update,
                    partial(Call, update, (), {"state": state, "sums": sums, "limit": scalar}),
                    weights=_bytes(state.params),
                    beside=waiting,
                ),
            ]
        return made

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
