"""What is loaded once and serves many jobs: the weights, and how they are run. Imports no JAX."""

import dataclasses
from typing import Literal

from talkverse_jax.core.options import check_bounds, option
from talkverse_jax.media.kinds import KINDS, KindsName
from talkverse_jax.media.walls import MAX_PIXELS, MAX_SECONDS, MOST_PIXELS, Child, Walls
from talkverse_jax.ops.names import KernelName
from talkverse_jax.sharding.mesh_config import MeshConfig
from talkverse_jax.weights.asked import (
    PEFT_CONFIG,
    Alpha,
    Asked,
    TrainedFile,
    alpha_option,
    rank_option,
    strength_option,
    verify_option,
)


@dataclasses.dataclass(frozen=True)
class Weights:
    """The converted weights, and trained files laid over them."""

    weights: str = option("folder of converted weights", group="input", metavar="DIR")
    lora_ckpt: tuple[str, ...] = option(
        "files of further training (.safetensors, LoRA of any dialect): their tensors replace those of the weights, "
        "their pairs and differences are added",
        group="input",
        metavar="FILE",
        default=(),
        decides=True,
        beside=PEFT_CONFIG,
    )
    lora_strength: tuple[float, ...] = strength_option("input", decides=True)
    lora_rank: int | None = rank_option("input", decides=True)
    lora_alpha: Alpha = alpha_option("input", decides=True)
    verify: bool = verify_option()

    def __post_init__(self):
        _ = self.trained_files  # are checked

    @property
    def trained_files(self) -> tuple[TrainedFile, ...]:
        """What `lora_ckpt` and the options that belong to it ask for."""
        return Asked(self.lora_strength, self.lora_rank, self.lora_alpha).files(self.lora_ckpt)


@dataclasses.dataclass(frozen=True)
class Machine:
    """How the models are run: numbers, devices, memory; and what is let in of a job's files."""

    dtype: Literal["bfloat16", "float32"] = option(
        "number type of the matrix products of the transformer and the text encoder",
        group="machine",
        default="bfloat16",
        decides=True,
        lowers_memory=(6, "bfloat16"),
    )
    residual_dtype: Literal["bfloat16", "float32"] = option(
        "number type of the sum that runs through the transformer's blocks; bfloat16 rounds it after every one",
        group="machine",
        default="float32",
        decides=True,
    )
    vae_dtype: Literal["bfloat16", "float32"] = option(
        "number type of the VAE; encoding in bfloat16 spoils long videos",
        group="machine",
        default="float32",
        decides=True,
        lowers_memory=(8, "bfloat16"),
    )
    decode_dtype: Literal["bfloat16", "float32"] = option(
        "number type of the convolutions that decode a clip; on TPUs and GPUs bfloat16 is much faster",
        group="machine",
        default="float32",
        decides=True,
    )
    mesh: str | None = option(
        "devices along each axis, such as data=2,context=-1, or a file or name of configs/mesh, such as v6e-8 "
        "(default: all accelerators, or one CPU)",
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
    offload_model: bool = option(
        "keep the transformer in host memory while the VAE works",
        group="machine",
        default=False,
        lowers_memory=(2, "true"),
    )
    resident_blocks: int | None = option(
        "blocks of the transformer that stay in the accelerator's memory, the first N; each of the others is copied "
        "from host memory at every step, while the one before it computes (default: all stay)",
        group="machine",
        metavar="N",
        default=None,
        lowers_memory=(9, "0"),
        least=0,
    )
    int8_products: bool = option(
        "multiply the int8 of a transformer converted with --dtype int8 by activations that are rounded to int8 too: "
        "faster, and less exact",
        group="machine",
        default=False,
        decides=True,
    )
    t5_cpu: bool = option("run the text encoder on the CPU", group="machine", default=False, lowers_memory=(1, "true"))
    file_kinds: KindsName = option(
        "kinds of pictures, videos and sounds that are opened: all, or the few of the web (PNG, JPEG, WebP, MP4, MOV, "
        "WebM, Matroska, WAV, FLAC, Ogg, MP3, M4A)",
        group="input",
        default="all",
    )
    max_pixels: int = option(
        "most pixels, width times height, of a picture or of a video's frame",
        group="input",
        metavar="N",
        default=MAX_PIXELS,
        least=1,
        most=MOST_PIXELS,
    )
    max_seconds: int = option(
        "most seconds of a sound, and of a video to dub", group="input", metavar="N", default=MAX_SECONDS, least=1
    )
    decode_in_child: bool = option(
        "read pictures, videos and sounds in processes of their own, with limits of memory and time: for files of "
        "people you do not know",
        group="input",
        default=False,
    )

    def __post_init__(self):
        check_bounds(self)
        if self.mesh is not None:
            MeshConfig.read(self.mesh)

    @property
    def walls(self) -> Walls:
        """What is let in of the files that a job names."""
        child = Child() if self.decode_in_child else None
        return Walls(KINDS[self.file_kinds], self.max_pixels, self.max_seconds, child=child, flags=True)

    @property
    def matmul_precision(self) -> str:
        """Of float32 products (the VAE, norms, time): an accelerator makes them in less unless told otherwise."""
        return "highest" if self.dtype == "float32" else "high"
