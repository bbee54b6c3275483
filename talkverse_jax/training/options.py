"""What `train.py` can be told, by flag or by config file; names follow the original where it has them."""

import dataclasses
import math
from typing import Literal

from talkverse_jax.core.errors import UserError
from talkverse_jax.core.options import check_at_least, check_shares, option
from talkverse_jax.diffusion.loss import Dropouts
from talkverse_jax.families.talkverse.config import TalkVerseConfig
from talkverse_jax.ops.names import KernelName, Remat
from talkverse_jax.sharding.mesh_config import MeshConfig
from talkverse_jax.sharding.process_options import ProcessOptions
from talkverse_jax.training.optimizer import Rates
from talkverse_jax.training.state import Beginning, Settings
from talkverse_jax.training.step import Objective
from talkverse_jax.training.strategy import Strategy, StrategyName
from talkverse_jax.training.videos import VideoOptions


@dataclasses.dataclass(frozen=True)
class TrainOptions(VideoOptions, ProcessOptions):
    """One run of `train.py`. A step is an update of the parameters; B is the batch, over all devices."""

    weights: str = option("folder that convert_torch_weights.py wrote", group="input", metavar="DIR")
    output_path: str = option(
        "the run's folder: checkpoints, metrics, previews, trained tensors; a run that lies there is resumed",
        group="output",
        metavar="DIR",
        default="train_output",
    )

    shards: str | None = option(
        "prepared data instead of videos: the folder that talkverse_jax.training.prepare wrote",
        group="input",
        metavar="DIR",
        default=None,
    )

    unfreeze_strategy: StrategyName = option(
        "what is trained of the base model, besides the audio adapter and the frame packer",
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

    text_dropout_prob: float = option("how often a caption is left out", group="loss", metavar="X", default=0.1)
    audio_dropout_prob: float = option("how often the sound is left out", group="loss", metavar="X", default=0.1)
    img_dropout_prob: float = option("how often the picture is left out", group="loss", metavar="X", default=0.1)
    framepack_dropout_prob: float = option(
        "how often the motion frames are left out", group="loss", metavar="X", default=0.1
    )

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
    audio_zero_init_lr_scaling: float = option(
        "rate of the frame packer (with --finetune_all of the audio adapter), times that",
        group="optimizer",
        metavar="X",
        default=10.0,
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
    log_interval: int = option("steps of a line in metrics.jsonl", group="output", metavar="N", default=10)
    use_tensorboard: bool = option("write OUTPUT/tensorboard", group="output", default=True)
    use_wandb: bool = option("log to Weights & Biases (pip install wandb)", group="output", default=False)
    wandb_project: str = option("its project", group="output", metavar="NAME", default="talkverse_jax")
    preview_steps: int = option(
        "steps between videos of the sample below; 0: none", group="output", metavar="N", default=0
    )
    preview_image: str | None = option("its picture", group="output", metavar="FILE", default=None)
    preview_audio: str | None = option(
        "its sound; one clip of it is shown", group="output", metavar="FILE", default=None
    )
    preview_prompt: str = option("its prompt", group="output", metavar="TEXT", default="A person talks to the camera.")
    preview_sample_steps: int = option("its denoising steps", group="output", metavar="N", default=20)
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

    @property
    def objective(self) -> Objective:
        dropouts = Dropouts(
            text=self.text_dropout_prob,
            audio=self.audio_dropout_prob,
            reference=self.img_dropout_prob,
            motion=self.framepack_dropout_prob,
        )
        return Objective(self.enable_roi_loss, dropouts, self.seed)

    @property
    def rates(self) -> Rates:
        return Rates(
            base=self.learning_rate,
            lora=self.lora_lr_scale,
            scaled=self.audio_zero_init_lr_scaling,
            warmup=self.warmup_steps,
        )

    def settings(self, config: TalkVerseConfig) -> Settings:
        """Of the network of that size."""
        return Settings(
            strategy=Strategy.of(self.unfreeze_strategy, config, self.finetune_all),
            rank=self.lora_rank,
            alpha=self.lora_alpha,
            beginning=self.init,
            seed=self.seed,
            dtype=self.dtype,
            kernel=self.attention,
            remat=self.remat,
        )

    @property
    def matmul_precision(self) -> str:
        """Of float32 products: an accelerator makes them in less unless told otherwise."""
        return "highest" if self.dtype == "float32" else "high"

    def checked(self) -> "TrainOptions":
        """The options, after every check that needs no model and no data.

        Raises:
          UserError: a flag's value cannot be used.
        """
        self.check_videos()
        check_at_least(self, batch_size=1, gradient_accumulation_steps=1, num_epochs=1, max_steps=1, warmup_steps=0)
        check_at_least(self, save_steps=1, keep_checkpoints=1, keep_every=0, log_interval=1, export_step=0)
        check_at_least(self, preview_steps=0, preview_sample_steps=1, lora_rank=1)
        check_shares(self, "text_dropout_prob", "img_dropout_prob", "audio_dropout_prob", "framepack_dropout_prob")
        for name in ("learning_rate", "lora_alpha", "lora_lr_scale", "audio_zero_init_lr_scaling"):
            if not 0 < (value := getattr(self, name)) < math.inf:
                raise UserError(f"--{name} {value}: give a number above 0")
        if not 0 <= self.ema_decay < 1:
            raise UserError(f"--ema_decay {self.ema_decay}: give a number from 0 to below 1, such as 0.999")
        if self.export is None and bool(self.dataset_metadata_path) == bool(self.shards):
            raise UserError("give either --dataset_metadata_path (videos) or --shards (prepared data)")
        if self.preview_steps and not (self.preview_image and self.preview_audio):
            raise UserError("--preview_steps: needs --preview_image and --preview_audio, what the video is made of")
        if self.finetune_all and self.unfreeze_strategy == "lora":
            raise UserError("--finetune_all: trains every parameter, so there is nothing to adapt; leave out lora")
        if self.export is None and self.export_step is not None:
            raise UserError("--export_step: belongs to --export FILE; give both or neither")
        if self.mesh is not None:
            MeshConfig.read(self.mesh)
        return self
