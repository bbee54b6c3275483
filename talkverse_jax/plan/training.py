"""A run of training, as a plan asks for it."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from talkverse_jax.core import tree
from talkverse_jax.core.config import from_dict, read_toml
from talkverse_jax.families.talkverse.axes import AXES
from talkverse_jax.families.talkverse.components import ModelConfigs
from talkverse_jax.families.talkverse.flops import training_flops
from talkverse_jax.pipeline.programs import Call, Program, Work, shard_bytes
from talkverse_jax.sharding.layout import Layout
from talkverse_jax.sharding.rules import TRAINING
from talkverse_jax.training.batch import TrainingBatch
from talkverse_jax.training.optimizer import make_optimizer
from talkverse_jax.training.options import TrainOptions
from talkverse_jax.training.state import abstract, divide, start_abstract
from talkverse_jax.training.step import Sums, TrainingStep


@dataclasses.dataclass(frozen=True)
class TrainingRun:
    """Updates on windows of one size, with motion frames.

    Attributes:
      configs: sizes of the models.
      size: (H, W) in pixels.
    """

    configs: ModelConfigs
    options: TrainOptions
    size: tuple[int, int]

    @property
    def frames(self) -> int:
        """Of a window, motion frames included."""
        return self.configs.dit.motion_frames + self.options.num_frames

    @property
    def strategy(self) -> str:
        """What is trained."""
        return "everything" if self.options.finetune_all else self.options.unfreeze_strategy

    @property
    def samples(self) -> int:
        """Of an update."""
        return self.options.batch_size * self.options.gradient_accumulation_steps

    @property
    def work(self) -> tuple[Work, ...]:
        """Of both programs: the gradients of a batch, and the update."""
        configs, options = self.configs, self.options
        h, w = (n // configs.vae.space_stride for n in self.size)
        blocks = options.settings(configs.dit).strategy.whole_blocks
        flops = training_flops(configs.dit, options.num_frames // 4, h, w, trained_blocks=blocks)
        return (
            Work(
                "gradients",
                options.batch_size * flops,
                options.gradient_accumulation_steps,
                "update",
                "dit",
                float32=options.dtype == "float32",
            ),
            Work("update", 0, 1, "update", "dit", float32=True),
        )

    @property
    def heads(self) -> int:
        """Of the transformer."""
        return self.configs.dit.trunk.num_heads

    @property
    def dtype(self) -> str:
        """Of matrix products."""
        return self.options.dtype

    @property
    def matmul_precision(self) -> str:
        """Of float32 products."""
        return self.options.matmul_precision

    @property
    def unit(self) -> str:
        """What its time is told for."""
        return f"an update of {self.samples} sample{'s' * (self.samples > 1)}"

    def programs(self, mesh: Mesh) -> list[Program]:
        """To be compiled for the devices of a mesh."""
        configs, options, layout = self.configs, self.options, Layout(mesh, TRAINING)
        step, state = _step(configs, options, layout)
        frozen, batch = step.network.frozen, _batch(configs, options, self.size, layout)
        scalar = jax.ShapeDtypeStruct((), jnp.float32, sharding=layout.sharding())
        sums = Sums(state.params, scalar, scalar)
        gradients, update = step.programs(layout.platform)
        # what the last batches of an update find; the first one begins the sums
        given = {"sums": sums if options.gradient_accumulation_steps > 1 else None}
        average = {"average": _bytes(state.ema)} if options.ema_decay else {}
        of_gradients, of_update = self.work
        return [
            Program(
                of_gradients,
                lambda: Call(gradients, (state.params, frozen, batch), given),
                weights=_bytes((state.params, frozen)),
                beside={"Adam": _bytes(state.optimizer), **average},
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
            "batch": options.batch_size,
            "accumulation": options.gradient_accumulation_steps,
            "strategy": self.strategy,
            "remat": options.remat,
        }

    def __str__(self) -> str:
        batches, (height, width) = self.options.gradient_accumulation_steps, self.size
        batch = f"batch {self.options.batch_size}" + (f" x {batches}" if batches > 1 else "")
        return f"{width}x{height}, {self.frames} frames, {self.strategy}, {batch}, remat {self.options.remat}"


def training_options(path: str | Path) -> TrainOptions:
    """The options of a config of training; its data is not needed.

    Raises:
      UserError: the file is none, or an option cannot be used.
    """
    no_data: dict[str, Any] = dict(weights="", shards="-", dataset_metadata_path=[])
    return from_dict(TrainOptions, read_toml(path) | no_data, str(path)).checked()


def _step(configs: ModelConfigs, options: TrainOptions, layout: Layout):
    """The programs and the state, of shapes alone."""
    settings = options.settings(configs.dit)
    strategy = settings.strategy
    module, place = abstract(configs.dit, settings, layout), layout.parameter_sharding(AXES)
    parameters = {
        path: jax.ShapeDtypeStruct(
            leaf.shape,
            jnp.dtype("float32" if strategy.trains(path) else options.dtype),
            sharding=place(path, leaf.shape),
        )
        for path, leaf in tree.abstract_parameters(module).items()
    }
    network, params = divide(tree.with_parameters(module, parameters), strategy, layout)
    optimizer = make_optimizer(network.groups, options.rates)
    state = start_abstract(params, optimizer, options.ema_decay > 0)
    return TrainingStep(network, optimizer, options.objective, state, options.ema_decay), state


def _batch(configs: ModelConfigs, options: TrainOptions, size: tuple[int, int], layout: Layout) -> TrainingBatch:
    dit, trunk, count, latent = configs.dit, configs.dit.trunk, options.batch_size, options.num_frames // 4
    h, w = (n // configs.vae.space_stride for n in size)

    def put(*shape: int, dtype: Any = options.dtype, axes: tuple[str, ...] = ("batch",)) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(shape, jnp.dtype(dtype), sharding=layout.sharding(*axes))

    return TrainingBatch(
        target=put(count, latent, h, w, trunk.in_channels),
        motion=put(count, dit.motion_latent_frames, h, w, trunk.in_channels),
        reference=put(count, 1, h, w, trunk.in_channels),
        audio=put(count, 4 * latent, dit.audio_layers, dit.audio_dim),
        text=put(count, trunk.text_len, trunk.text_dim),
        null_text=put(trunk.text_len, trunk.text_dim, axes=()),
        face=put(count, latent, h, w, dtype="uint8"),
        body=put(count, latent, h, w, dtype="uint8"),
        weight=put(count, dtype="float32"),
        ids=put(count, 2, dtype="uint32"),
    )


def _bytes(arrays: Any) -> int:
    return sum(map(shard_bytes, jax.tree.leaves(arrays)))
