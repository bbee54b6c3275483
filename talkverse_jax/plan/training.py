"""The programs that training runs, as a plan compiles them."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from talkverse_jax.core import tree
from talkverse_jax.families.talkverse.axes import AXES
from talkverse_jax.families.talkverse.components import ModelConfigs
from talkverse_jax.families.talkverse.flops import training_flops
from talkverse_jax.plan.sampling import Program, Work, shard_bytes
from talkverse_jax.sharding.layout import Layout
from talkverse_jax.sharding.rules import TRAINING
from talkverse_jax.training.batch import TrainingBatch
from talkverse_jax.training.optimizer import make_optimizer
from talkverse_jax.training.options import TrainOptions
from talkverse_jax.training.state import abstract, divide, start_abstract
from talkverse_jax.training.step import Sums, TrainingStep


@dataclasses.dataclass(frozen=True)
class TrainingJob:
    """What is trained: windows of `frames` frames of height x width pixels, motion frames included."""

    height: int
    width: int
    frames: int
    batch: int
    accumulation: int
    strategy: str
    remat: str

    def __str__(self) -> str:
        batch = f"batch {self.batch}" + (f" x {self.accumulation}" if self.accumulation > 1 else "")
        return f"{self.width}x{self.height}, {self.frames} frames, {self.strategy}, {batch}, remat {self.remat}"


def make_training_job(configs: ModelConfigs, options: TrainOptions, height: int, width: int) -> TrainingJob:
    """The updates that the options ask for, of windows with motion frames."""
    return TrainingJob(
        height=height,
        width=width,
        frames=configs.dit.motion_frames + options.num_frames,
        batch=options.batch_size,
        accumulation=options.gradient_accumulation_steps,
        strategy="everything" if options.finetune_all else options.unfreeze_strategy,
        remat=options.remat,
    )


def training_programs(configs: ModelConfigs, options: TrainOptions, job: TrainingJob, mesh: Mesh) -> list[Program]:
    """The gradients of a batch, and the update."""
    layout = Layout(mesh, TRAINING)
    step, state = _step(configs, options, layout)
    frozen, batch = step.network.frozen, _batch(configs, options, job, layout)
    scalar = jax.ShapeDtypeStruct((), jnp.float32, sharding=layout.sharding())
    sums = Sums(state.params, scalar, scalar)
    gradients, update = step.programs(layout.platform)
    h, w = (n // configs.vae.space_stride for n in (job.height, job.width))
    blocks = options.settings(configs.dit).strategy.whole_blocks
    flops = job.batch * training_flops(configs.dit, options.num_frames // 4, h, w, trained_blocks=blocks)
    f32 = options.dtype == "float32"
    # what the last batches of an update find; the first one begins the sums
    given: dict[str, Any] = {"sums": sums if job.accumulation > 1 else None}
    average = {"average": _bytes(state.ema)} if options.ema_decay else {}
    return [
        Program(
            Work("gradients", flops, job.accumulation, "update", "dit", float32=f32),
            gradients,
            (state.params, frozen, batch),
            given,
            weights=_bytes((state.params, frozen)),
            beside={"Adam": _bytes(state.optimizer), **average},
        ),
        Program(
            Work("update", 0, 1, "update", "dit", float32=True),
            update,
            (),
            {"state": state, "sums": sums, "limit": scalar},
            weights=_bytes(state.params),
            beside={"not trained": _bytes(frozen)},
        ),
    ]


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


def _batch(configs: ModelConfigs, options: TrainOptions, job: TrainingJob, layout: Layout) -> TrainingBatch:
    dit, trunk, count, latent = configs.dit, configs.dit.trunk, job.batch, options.num_frames // 4
    h, w = (n // configs.vae.space_stride for n in (job.height, job.width))

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
