"""What a training run can be told, whatever the family; names follow the original where it has them. Imports no JAX.

A step is an update of the parameters; B is the batch, over all devices.
"""

import dataclasses
import math
from collections.abc import Mapping
from types import ModuleType
from typing import Any, Literal

from talkverse_jax.core.errors import UserError
from talkverse_jax.core.options import build, check_at_least, option
from talkverse_jax.ops.names import KernelName, Remat
from talkverse_jax.sharding.mesh_config import MeshConfig
from talkverse_jax.sharding.process_options import ProcessOptions
from talkverse_jax.training.names import Beginning, StrategyName
from talkverse_jax.training.video_options import VideoOptions


@dataclasses.dataclass(frozen=True)
class TrainInput:
    """What a run begins with."""

    weights: str = option("folder that convert_torch_weights.py wrote", group="input", metavar="DIR")
    shards: str | None = option(
        "prepared data instead of videos: the folder that talkverse-jax prepare wrote",
        group="input",
        metavar="DIR",
        default=None,
    )


@dataclasses.dataclass(frozen=True)
class Tuning:
    """What of the network is trained, and what its parameters are at first."""

    unfreeze_strategy: StrategyName = option(
        "what of the base model is trained; what it lacks always is",
        group="model",
        default="minimal",
    )
    finetune_all: bool = option("train every parameter of the transformer", group="model", default=False)
    lora_rank: int = option("rank of the adapters of lora", group="model", metavar="N", default=128)
    lora_alpha: float = option("their alpha: they count alpha/rank times", group="model", metavar="X", default=128.0)
    init: Beginning = option(
        "what is drawn anew: nothing; what the base model lacks, as the original's training begins; everything",
        group="model",
        default="weights",
    )
    ema_decay: float = option(
        "of a running average of the trained parameters, which previews and exports then show; 0: none",
        group="model",
        metavar="X",
        default=0.0,
    )

    def __post_init__(self):
        check_at_least(self, lora_rank=1)
        _check_positive(self, "lora_alpha")
        if not 0 <= self.ema_decay < 1:
            raise UserError(f"{self.ema_decay}: give a number from 0 to below 1, such as 0.999", field="ema_decay")
        if self.finetune_all and self.unfreeze_strategy == "lora":
            raise UserError(
                "trains every parameter, so there is nothing to adapt; leave out lora", field="finetune_all"
            )


@dataclasses.dataclass(frozen=True)
class Optimization:
    """Batches, how many of them, and rates."""

    batch_size: int = option(
        "samples of a batch OVER ALL DEVICES (the original's is that of one device)",
        group="optimizer",
        metavar="B",
        default=1,
    )
    gradient_accumulation_steps: int = option("batches of a step", group="optimizer", metavar="N", default=1)
    num_epochs: int = option("passes through the data", group="optimizer", metavar="N", default=10)
    max_steps: int | None = option(
        "steps after which the run ends, if not before", group="optimizer", metavar="N", default=None
    )
    learning_rate: float = option("of AdamW", group="optimizer", metavar="X", default=1e-5)
    warmup_steps: int = option(
        "steps over which the rate rises from 0; the first changes nothing",
        group="optimizer",
        metavar="N",
        default=1000,
    )
    lora_lr_scale: float = option("rate of the adapters, times that", group="optimizer", metavar="X", default=10.0)

    def __post_init__(self):
        check_at_least(self, batch_size=1, gradient_accumulation_steps=1, num_epochs=1, max_steps=1, warmup_steps=0)
        _check_positive(self, "learning_rate", "lora_lr_scale")


@dataclasses.dataclass(frozen=True)
class RunFolder:
    """Where a run and its checkpoints lie."""

    output_path: str = option(
        "the run's folder: checkpoints, metrics, previews, trained tensors; a run that lies there is resumed",
        group="output",
        metavar="DIR",
        default="train_output",
    )
    checkpoint_path: str | None = option(
        "where checkpoints go (default: OUTPUT/checkpoints), such as gs://...; of several processes all see it",
        group="output",
        metavar="DIR",
        default=None,
    )
    save_steps: int = option("steps between checkpoints", group="output", metavar="N", default=500)
    keep_checkpoints: int = option("the last N are kept", group="output", metavar="N", default=3)
    keep_every: int = option("and all whose step is a multiple of M; 0: none", group="output", metavar="M", default=0)

    def __post_init__(self):
        check_at_least(self, save_steps=1, keep_checkpoints=1, keep_every=0)

    @property
    def checkpoints(self) -> str:
        """The folder of the checkpoints."""
        return self.checkpoint_path or f"{self.output_path}/checkpoints"


@dataclasses.dataclass(frozen=True)
class Curves:
    """How a run is followed."""

    log_interval: int = option("steps of a line in metrics.jsonl", group="output", metavar="N", default=10)
    use_tensorboard: bool = option("write OUTPUT/tensorboard", group="output", default=True)
    use_wandb: bool = option("log to Weights & Biases (pip install wandb)", group="output", default=False)
    wandb_project: str = option("its project", group="output", metavar="NAME", default="talkverse_jax")

    def __post_init__(self):
        check_at_least(self, log_interval=1)


@dataclasses.dataclass(frozen=True)
class PreviewOptions:
    """A short video that is made now and then."""

    preview_steps: int = option(
        "steps between videos of the sample below; 0: none", group="output", metavar="N", default=0
    )
    preview_image: str | None = option("its picture", group="output", metavar="FILE", default=None)
    preview_audio: str | None = option(
        "its sound; one clip of it is shown", group="output", metavar="FILE", default=None
    )
    preview_prompt: str = option("its prompt", group="output", metavar="TEXT", default="A person talks to the camera.")
    preview_sample_steps: int = option("its denoising steps", group="output", metavar="N", default=20)

    def __post_init__(self):
        check_at_least(self, preview_steps=0, preview_sample_steps=1)
        if self.preview_steps and not (self.preview_image and self.preview_audio):
            raise UserError(
                "needs --preview_image and --preview_audio, what the video is made of", field="preview_steps"
            )


@dataclasses.dataclass(frozen=True)
class ExportOptions:
    """The trained tensors as a file."""

    export: str | None = option(
        "write the trained tensors of the run in --output_path as the original names them, and stop",
        group="output",
        metavar="FILE",
        default=None,
    )
    export_step: int | None = option(
        "of which checkpoint (default: the last)", group="output", metavar="N", default=None
    )
    export_dtype: Literal["float32", "bfloat16"] = option(
        "of the tensors in OUTPUT/step-N.safetensors and --export", group="output", default="float32"
    )

    def __post_init__(self):
        check_at_least(self, export_step=0)
        if self.export is None and self.export_step is not None:
            raise UserError("belongs to --export FILE; give both or neither", field="export_step")


@dataclasses.dataclass(frozen=True)
class TrainMachine:
    """How the network is run: numbers, memory, devices."""

    dtype: Literal["bfloat16", "float32"] = option(
        "of matrix products and of what is not trained; the rest is float32", group="machine", default="bfloat16"
    )
    remat: Remat = option(
        "what of a block is computed again going back: full: all of it, least memory; dots: all but its linear "
        "layers; none",
        group="machine",
        default="full",
    )
    mesh: str | None = option(
        "devices along each axis, such as fsdp=4,context=2, or a file of configs/mesh "
        "(default: fsdp over all accelerators, or one CPU)",
        group="machine",
        metavar="AXES",
        default=None,
    )
    attention: KernelName = option(
        "kernel: splash on TPUs, cudnn on GPUs, xla anywhere; auto takes the first that can run",
        group="machine",
        default="auto",
    )

    def __post_init__(self):
        if self.mesh is not None:
            MeshConfig.read(self.mesh)

    @property
    def matmul_precision(self) -> str:
        """Of float32 products: an accelerator makes them in less unless told otherwise."""
        return "highest" if self.dtype == "float32" else "high"


@dataclasses.dataclass(frozen=True)
class TrainOptions:
    """One run.

    Attributes:
      settings: the family's `TrainingSettings`.

    Raises:
      UserError: options do not fit together.
    """

    input: TrainInput
    videos: VideoOptions
    settings: Any
    tuning: Tuning
    optimization: Optimization
    folder: RunFolder
    curves: Curves
    preview: PreviewOptions
    export: ExportOptions
    machine: TrainMachine
    processes: ProcessOptions

    def __post_init__(self):
        if self.export.export is None and bool(self.videos.dataset_metadata_path) == bool(self.input.shards):
            raise UserError("give either --dataset_metadata_path (videos) or --shards (prepared data)")

    @classmethod
    def build(cls, family_settings: ModuleType, values: Mapping[str, Any], where: str) -> "TrainOptions":
        """From values by flag.

        Args:
          family_settings: the family's module `settings`.
          where: they come from, for error messages.

        Raises:
          UserError: a value is unknown, missing, or cannot be used.
        """
        return cls(**build(train_groups(family_settings), dict(values), where))

    def flat(self) -> dict[str, Any]:
        """All values by flag."""
        parts = [getattr(self, field.name) for field in dataclasses.fields(self)]
        return {name: value for part in parts for name, value in dataclasses.asdict(part).items()}


def train_groups(family_settings: ModuleType) -> dict[str, type]:
    """The options of training by group, as `TrainOptions` has them.

    Args:
      family_settings: the family's module `settings`.
    """
    return {
        "input": TrainInput,
        "videos": VideoOptions,
        "settings": family_settings.TrainingSettings,
        "tuning": Tuning,
        "optimization": Optimization,
        "folder": RunFolder,
        "curves": Curves,
        "preview": PreviewOptions,
        "export": ExportOptions,
        "machine": TrainMachine,
        "processes": ProcessOptions,
    }


def _check_positive(options: Any, *names: str) -> None:
    for name in names:
        if not 0 < (value := getattr(options, name)) < math.inf:
            raise UserError(f"{value}: give a number above 0", field=name)
