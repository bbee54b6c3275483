"""What is loaded once and serves many jobs: the weights, and how they are run. Imports no JAX."""

import dataclasses
from typing import Literal

from talkverse_jax.core.errors import UserError
from talkverse_jax.core.options import option
from talkverse_jax.ops.names import KernelName
from talkverse_jax.sharding.mesh_config import MeshConfig


@dataclasses.dataclass(frozen=True)
class Weights:
    """The converted weights, and trained files laid over them."""

    weights: str = option("folder of converted weights", group="input", metavar="DIR")
    lora_ckpt: str | None = option(
        "a file of further training (.safetensors): its tensors replace those of the weights, its LoRA pairs are added",
        group="input",
        metavar="FILE",
        default=None,
        decides=True,
    )
    lora_rank: int = option("rank of the pairs in --lora_ckpt", group="input", metavar="N", default=128, decides=True)
    lora_alpha: float = option(
        "alpha of the pairs in --lora_ckpt", group="input", metavar="X", default=128.0, decides=True
    )

    def __post_init__(self):
        if self.lora_rank < 1:
            raise UserError(f"{self.lora_rank}: give 1 or more", field="lora_rank")


@dataclasses.dataclass(frozen=True)
class Machine:
    """How the models are run: numbers, devices, memory."""

    dtype: Literal["bfloat16", "float32"] = option(
        "number type of the matrix products of the transformer and the text encoder",
        group="machine",
        default="bfloat16",
        decides=True,
    )
    vae_dtype: Literal["bfloat16", "float32"] = option(
        "number type of the VAE; encoding in bfloat16 spoils long videos",
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
    )
    attention: KernelName = option(
        "attention kernel: splash on TPUs, cudnn on GPUs, xla anywhere; auto takes the first that can run",
        group="machine",
        default="auto",
    )
    offload_model: bool = option(
        "keep the transformer in host memory while the VAE works", group="machine", default=False
    )
    t5_cpu: bool = option("run the text encoder on the CPU", group="machine", default=False)

    def __post_init__(self):
        if self.mesh is not None:
            MeshConfig.read(self.mesh)

    @property
    def matmul_precision(self) -> str:
        """Of float32 products (the VAE, norms, time): an accelerator makes them in less unless told otherwise."""
        return "highest" if self.dtype == "float32" else "high"
