"""What a training run can be told, whatever the family; names follow the original where it has them. Imports no JAX.

A step is an update of the parameters; B is the batch, over all devices.
"""

import dataclasses
import math
from collections.abc import Mapping
from types import ModuleType
from typing import Any, Literal

from talkverse_jax.core.errors import UserError
from talkverse_jax.core.options import build, check_bounds, option
from talkverse_jax.models.umt5.prompts import check_prompts
from talkverse_jax.ops.names import KernelName, Remat
from talkverse_jax.pipeline.decoders import DecoderName
from talkverse_jax.sharding.mesh_config import MeshConfig
from talkverse_jax.sharding.process_options import ProcessOptions
from talkverse_jax.training.distil_options import DistilOptions
from talkverse_jax.training.names import Beginning, OptimizerName, ScheduleName, StrategyName
from talkverse_jax.training.video_options import VideoOptions, check_one_for_each
from talkverse_jax.weights.asked import Asked, TrainedFile, strength_option, verify_option


@dataclasses.dataclass(frozen=True)
class TrainInput:
    """What a run begins with."""

    weights: str = option("folder of converted weights", group="input", metavar="DIR")
    shards: tuple[str, ...] | None = option(
        "folders of prepared data, which `prepare` writes, instead of videos",
        group="input",
        metavar="DIR",
        default=None,
    )
    dataset_repeat: tuple[int, ...] = option(
        "how often an epoch has each sample of a data set: a number for each CSV file or folder of shards, or one for "
        "all",
        group="input",
        metavar="N",
        default=(1,),
    )
    dataset_weight: tuple[float, ...] = option(
        "how much a sample of a data set counts in the loss: likewise", group="input", metavar="X", default=(1.0,)
    )
    lora_ckpt: tuple[str, ...] = option(
        "trained files to begin with (LoRA of any dialect). With --unfreeze_strategy lora, one file at strength 1 "
        "becomes the adapters, if its pairs fit; otherwise the files are added to the weights",
        group="input",
        metavar="FILE",
        default=(),
    )
    lora_strength: tuple[float, ...] = strength_option("input")
    verify: bool = verify_option()

    def __post_init__(self):
        _ = self.trained_files  # are checked
        for name, fits, what in (
            ("dataset_repeat", lambda value: value >= 1, "1 or more"),
            ("dataset_weight", lambda value: 0 < value < math.inf, "a number above 0"),
        ):
            for value in getattr(self, name):
                if not fits(value):
                    raise UserError(f"{value}: give {what}", field=name)

    @property
    def trained_files(self) -> tuple[TrainedFile, ...]:
        """What `lora_ckpt` and `lora_strength` ask for."""
        return Asked(self.lora_strength).files(self.lora_ckpt)


@dataclasses.dataclass(frozen=True)
class Tuning:
    """What of the network is trained, and what its parameters are at first."""

    unfreeze_strategy: StrategyName = option(
        "which part of the base model is trained; what the base model lacks is always trained",
        group="model",
        default="minimal",
        lowers_memory=(8, "lora"),
    )
    finetune_all: bool = option("train every parameter of the transformer", group="model", default=False)
    lora_rank: int | None = option(
        "rank of the LoRA adapters (default: that of the pairs that they go on from; of new ones 128)",
        group="model",
        metavar="N",
        default=None,
        least=1,
    )
    lora_alpha: float | None = option(
        "alpha of the LoRA adapters, which count alpha/rank times (default: likewise)",
        group="model",
        metavar="X",
        default=None,
        above=0,
    )
    init: Beginning = option(
        "what starts from random numbers: nothing (weights); what the base model lacks, as in the original (adapter); "
        "all",
        group="model",
        default="weights",
    )
    ema_decay: float = option(
        "decay of a running average of the trained parameters, which previews and exports then take; 0: no average",
        group="model",
        metavar="X",
        default=0.0,
    )

    def __post_init__(self):
        check_bounds(self)
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
        "samples of a batch OVER ALL DEVICES (the original counts those of one device)",
        group="optimizer",
        metavar="B",
        default=1,
        lowers_memory=(2, "1, with more --gradient_accumulation_steps"),
        least=1,
    )
    gradient_accumulation_steps: int = option(
        "batches that make one step", group="optimizer", metavar="N", default=1, least=1
    )
    num_epochs: int = option("passes through the data", group="optimizer", metavar="N", default=10, least=1)
    max_steps: int | None = option(
        "steps after which the run ends, if the epochs do not end before",
        group="optimizer",
        metavar="N",
        default=None,
        least=1,
    )
    optimizer: OptimizerName = option(
        "adafactor keeps little beside the parameters, where adamw keeps two numbers for each",
        group="optimizer",
        default="adamw",
    )
    adam_betas: tuple[float, ...] = option(
        "of adamw: how much of the gradients before, and of their squares, is kept",
        group="optimizer",
        metavar="X",
        default=(0.9, 0.999),
    )
    weight_decay: float = option(
        "of adamw: how far parameters are drawn to 0, times the learning rate",
        group="optimizer",
        metavar="X",
        default=0.01,
        least=0,
    )
    learning_rate: float = option("learning rate", group="optimizer", metavar="X", default=1e-5, above=0)
    warmup_steps: int = option(
        "steps over which the learning rate rises from 0; the first step changes nothing",
        group="optimizer",
        metavar="N",
        default=1000,
        least=0,
    )
    schedule: ScheduleName = option(
        "the learning rate after that: the same; falling to 0 in half a wave (cosine); falling again and again",
        group="optimizer",
        default="constant",
    )
    schedule_steps: int | None = option(
        "of cosine the step at which the rate is 0, of restarts how many steps each fall takes (default: --max_steps)",
        group="optimizer",
        metavar="N",
        default=None,
        least=1,
    )
    lora_lr_scale: float = option(
        "factor of the learning rate for LoRA adapters", group="optimizer", metavar="X", default=10.0, above=0
    )

    def __post_init__(self):
        check_bounds(self)
        if len(self.adam_betas) != 2 or not all(0 <= beta < 1 for beta in self.adam_betas):
            given = " ".join(map(str, self.adam_betas))
            raise UserError(f"{given}: give two numbers from 0 to below 1, such as 0.9 0.999", field="adam_betas")
        if self.schedule == "constant":
            if self.schedule_steps:
                raise UserError(
                    "belongs to --schedule cosine or restarts; give both or neither", field="schedule_steps"
                )
        elif not self.falling_steps:
            raise UserError(f"{self.schedule}: needs --schedule_steps or --max_steps", field="schedule")
        elif self.schedule == "cosine" and self.falling_steps <= self.warmup_steps:
            raise UserError(
                f"cosine: ends at step {self.falling_steps}, before --warmup_steps {self.warmup_steps} are over; give "
                "fewer of these",
                field="schedule",
            )

    @property
    def falling_steps(self) -> int:
        """What `schedule_steps` means; 0: nothing was said."""
        return self.schedule_steps or self.max_steps or 0


@dataclasses.dataclass(frozen=True)
class RunFolder:
    """Where a run and its checkpoints lie."""

    output_path: str = option(
        "folder of the run: checkpoints, metrics, previews, trained tensors; a run that is there goes on",
        group="output",
        metavar="DIR",
        default="train_output",
    )
    checkpoint_path: str | None = option(
        "folder or bucket (gs://...) of the checkpoints, which all processes must see (default: checkpoints in "
        "--output_path)",
        group="output",
        metavar="DIR",
        default=None,
    )
    save_steps: int = option("steps between checkpoints", group="output", metavar="N", default=500, least=1)
    keep_checkpoints: int = option(
        "how many of the last checkpoints are kept", group="output", metavar="N", default=3, least=1
    )
    keep_every: int = option(
        "also keep those whose step is a multiple of M; 0: none", group="output", metavar="M", default=0, least=0
    )

    def __post_init__(self):
        check_bounds(self)

    @property
    def checkpoints(self) -> str:
        """The folder of the checkpoints."""
        return self.checkpoint_path or f"{self.output_path}/checkpoints"


@dataclasses.dataclass(frozen=True)
class Curves:
    """How a run is followed."""

    log_interval: int = option("steps between lines of metrics.jsonl", group="output", metavar="N", default=10, least=1)
    use_tensorboard: bool = option("write curves for TensorBoard into the run's folder", group="output", default=True)
    use_wandb: bool = option("log to Weights & Biases (pip install wandb)", group="output", default=False)
    wandb_project: str = option("project of Weights & Biases", group="output", metavar="NAME", default="talkverse_jax")

    held_out: str | None = option(
        "data that is not trained on, a CSV of videos or a folder of prepared data, whose loss at five fixed noise "
        "levels is measured now and then",
        group="output",
        metavar="FILE",
        default=None,
    )
    held_out_steps: int = option("steps between these measurements", group="output", metavar="N", default=500, least=1)

    def __post_init__(self):
        check_bounds(self)


@dataclasses.dataclass(frozen=True)
class PreviewOptions:
    """Short videos that are made now and then."""

    preview_steps: int = option(
        "steps between preview videos; 0: no previews", group="output", metavar="N", default=0, least=0
    )
    previews: str | None = option(
        "several preview videos: a JSON object a line, with id, image, audio, prompt, guidance (with, without, both), "
        "settings of sample; what a line leaves out is as the next flags say",
        group="output",
        metavar="FILE",
        default=None,
    )
    preview_image: str | None = option("picture of the preview", group="output", metavar="FILE", default=None)
    preview_audio: str | None = option(
        "sound of the preview, which shows one clip", group="output", metavar="FILE", default=None
    )
    preview_prompt: str = option(
        "prompt of the preview", group="output", metavar="TEXT", default="A person talks to the camera."
    )
    preview_sample_steps: int = option(
        "denoising steps of the preview", group="output", metavar="N", default=20, least=1
    )
    preview_decoder: DecoderName = option(
        "what shows the preview: the VAE's own decoder, or the tiny one of the weights", group="output", default="full"
    )

    def __post_init__(self):
        check_bounds(self)
        check_prompts(self, "preview_prompt")
        if self.preview_steps and not self.previews and not (self.preview_image and self.preview_audio):
            raise UserError(
                "needs --preview_image and --preview_audio, what the video is made of, or --previews FILE",
                field="preview_steps",
            )
        if self.previews and not self.preview_steps:
            raise UserError("belongs to --preview_steps N; give both or neither", field="previews")


@dataclasses.dataclass(frozen=True)
class ExportOptions:
    """The trained tensors as a file."""

    export: str | None = option(
        "write the trained tensors of the run in --output_path under the original's names, and stop",
        group="output",
        metavar="FILE",
        default=None,
    )
    export_step: int | None = option(
        "step of the checkpoint to export (default: the last)", group="output", metavar="N", default=None, least=0
    )
    export_steps: int = option(
        "steps between trained tensors that are written while training goes on; 0: only at the end",
        group="output",
        metavar="N",
        default=0,
        least=0,
    )
    keep_exports: int = option("how many of these are kept; 0: all", group="output", metavar="N", default=0, least=0)
    export_dtype: Literal["float32", "bfloat16"] = option(
        "number type of the exported tensors", group="output", default="float32"
    )

    def __post_init__(self):
        check_bounds(self)
        if self.keep_exports and not self.export_steps:
            raise UserError("belongs to --export_steps N; give both or neither", field="keep_exports")
        if self.export is None and self.export_step is not None:
            raise UserError("belongs to --export FILE; give both or neither", field="export_step")


@dataclasses.dataclass(frozen=True)
class TrainMachine:
    """How the network is run: numbers, memory, devices."""

    dtype: Literal["bfloat16", "float32"] = option(
        "number type of matrix products and of weights that are not trained; everything else is float32",
        group="machine",
        default="bfloat16",
        lowers_memory=(5, "bfloat16"),
    )
    remat: Remat = option(
        "what the backward pass computes again instead of keeping it; full: whole blocks, for the least memory; "
        "attention: all but self-attention on TPUs; stages: nor what a block's stages add; dots: all but linear "
        "layers; none: nothing",
        group="machine",
        default="full",
        lowers_memory=(1, "full"),
    )
    mesh: str | None = option(
        "devices along each axis, such as fsdp=4,context=2, or a file or name of configs/mesh "
        "(default: fsdp over all accelerators, or one CPU)",
        group="machine",
        metavar="AXES",
        default=None,
        lowers_memory=(4, "(more devices)"),
    )
    attention: KernelName = option(
        "attention kernel: flash or splash on TPUs, cudnn on GPUs, xla anywhere; auto takes the first that can run",
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
    distil: DistilOptions
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
        if self.distil.distils and self.tuning.init != "weights":
            raise UserError(f"{self.tuning.init}: a student begins as its teacher; leave it out", field="init")
        for name in ("dataset_repeat", "dataset_weight"):
            check_one_for_each(self.input, self._datasets, name)

    @property
    def _datasets(self) -> int:
        return len(self.videos.dataset_metadata_path or self.input.shards or ())

    @property
    def repeats(self) -> tuple[int, ...]:
        """How often an epoch has the samples of each data set."""
        given = self.input.dataset_repeat
        return given if len(given) > 1 else given * self._datasets

    @property
    def weights(self) -> tuple[float, ...]:
        """How much the samples of each data set count."""
        given = self.input.dataset_weight
        return given if len(given) > 1 else given * self._datasets

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
        "distil": DistilOptions,
        "optimization": Optimization,
        "folder": RunFolder,
        "curves": Curves,
        "preview": PreviewOptions,
        "export": ExportOptions,
        "machine": TrainMachine,
        "processes": ProcessOptions,
    }
