"""What `gpu.py` runs: sizes, random models and inputs made on the device, and how long a call takes."""

import dataclasses
import itertools
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import gpu_goldens
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from gpu_report import PartReport

from talkverse_jax.core.config import from_dict, read_toml
from talkverse_jax.families.talkverse.config import TalkVerseConfig
from talkverse_jax.families.talkverse.flops import clip_tokens
from talkverse_jax.families.talkverse.model import TalkVerse
from talkverse_jax.models.vae.config import VAEConfig
from talkverse_jax.ops.attention import Attention
from talkverse_jax.ops.attention.cudnn import refusal

CLIP_STEPS = 50
TINY_MODELS = Path(__file__).parent.parent / "configs" / "model_tiny.toml"


@dataclasses.dataclass(frozen=True)
class Workload:
    """What is run.

    Attributes:
      steps, repeats: timed steps, and timed calls of anything else.
      calls: of a kernel, one after the other, as one timed call.
      square: side of the matrix product that tells what the device can do.
      goldens: reference bundles.
      attention: the kernel in bfloat16.
      vae_dtype: of the VAE's parameters and convolutions.
    """

    dit: TalkVerseConfig
    vae: VAEConfig
    frames: int
    height: int
    width: int
    steps: int
    repeats: int
    calls: int
    square: int
    goldens: tuple[str, ...]
    attention: str = "auto"
    vae_dtype: str = "float32"

    @classmethod
    def full(cls) -> "Workload":
        goldens = (*gpu_goldens.SMALL, gpu_goldens.FULL_WIDTH)
        return cls(TalkVerseConfig.talkverse_5b(), VAEConfig.wan22(), 120, 640, 640, 8, 3, 10, 8192, goldens)

    @classmethod
    def tiny(cls) -> "Workload":
        models = read_toml(TINY_MODELS)
        dit = from_dict(TalkVerseConfig, models["dit"], str(TINY_MODELS))
        vae = from_dict(VAEConfig, models["vae"], str(TINY_MODELS))
        return cls(dit, vae, 8, 128, 128, 2, 1, 1, 256, ("dit_motion",))

    @property
    def clip(self) -> tuple[int, ...]:
        """Shape of a clip's latents."""
        return self.latents(self.frames // self.vae.time_stride)

    @property
    def tokens(self) -> int:
        """Of a branch of a step, with motion context."""
        _, frames, h, w, _ = self.clip
        return clip_tokens(self.dit, frames, h, w, motion=True)[1]

    def latents(self, frames: int) -> tuple[int, ...]:
        """Shape of that many latent frames."""
        stride = self.vae.space_stride
        return (1, frames, self.height // stride, self.width // stride, self.vae.z_dim)


def timed(function: Callable[[], Any], repeats: int) -> list[float]:
    """Seconds of each call, after one that is not counted."""
    seconds = []
    for _ in range(repeats + 1):
        begin = time.perf_counter()
        jax.block_until_ready(function())
        seconds.append(time.perf_counter() - begin)
    return seconds[1:]


def keys(seed: int) -> Iterator[jax.Array]:
    """Keys of XLA's own generator, whose programs are small."""
    key = jax.random.key(seed, impl="rbg")
    return (jax.random.fold_in(key, i) for i in itertools.count())


@partial(jax.jit, static_argnames=("shape", "dtype"))
def normal(key, shape: tuple[int, ...], dtype=jnp.float32, mean: float = 0, std: float = 1) -> jax.Array:
    return (mean + std * jax.random.normal(key, shape, jnp.float32)).astype(dtype)


def random_model(report: PartReport, make: Callable[[nnx.Rngs], nnx.Module]) -> nnx.Module:
    """A model whose parameters are made where they stay: kernels of variance 1 / fan-in, norms about 1."""
    begin, key = time.perf_counter(), keys(0)
    graphdef, state = nnx.split(nnx.eval_shape(lambda: make(nnx.Rngs(0))))
    flat = []
    for path, variable in nnx.to_flat_state(state):
        leaf = variable.get_value()
        fan_in = 100
        if path[-1] == "kernel":  # of a convolution over pixels, or a linear layer, which may be stacked
            fan_in = np.prod(leaf.shape[:-1]) if len(leaf.shape) > 3 else leaf.shape[-2]
        mean = float(path[-1] in ("scale", "gamma"))
        value = normal(next(key), leaf.shape, leaf.dtype, mean, float(fan_in) ** -0.5)
        flat.append((path, variable.replace(value)))
    model = jax.block_until_ready(nnx.merge(graphdef, nnx.from_flat_state(flat)))
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(model))
    seconds = time.perf_counter() - begin
    report.add(f"{size / 1e9:.1f} GB of random weights in {seconds:.0f} s", weight_bytes=size)
    return model


def transformer(job: Workload, dtype, kernel: str) -> Callable[[nnx.Rngs], TalkVerse]:
    return lambda rngs: TalkVerse(job.dit, rngs=rngs, dtype=dtype, param_dtype=dtype, kernel=kernel)


def clip_inputs(job: Workload) -> tuple[jax.Array, ...]:
    """Text, negative text, audio, reference and motion of a clip."""
    key, config, trunk = keys(1), job.dit, job.dit.trunk
    shapes = [(1, trunk.text_len, trunk.text_dim)] * 2
    shapes.append((1, job.frames, config.audio_layers, config.audio_dim))
    shapes += [job.latents(1), job.latents(config.motion_latent_frames)]
    return tuple(normal(next(key), shape) for shape in shapes)


def attention(job: Workload) -> str:
    """The kernel that a bfloat16 transformer takes."""
    dtype, width = jnp.dtype(jnp.bfloat16), job.dit.trunk.head_dim
    Attention(kernel=job.attention).check(dtype, width)
    fused = refusal(jax.default_backend(), dtype, width) is None
    return ("cudnn" if fused else "xla") if job.attention == "auto" else job.attention
