"""The parts of `gpu.py`: each measures one thing and reports it line by line."""

import dataclasses
import itertools
import json
import statistics
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

from talkverse_jax.core.compilation import model_jit
from talkverse_jax.core.config import from_dict, read_toml
from talkverse_jax.diffusion.denoise import LoopState, denoising_step, steps_of
from talkverse_jax.diffusion.flow import make_schedule
from talkverse_jax.diffusion.guidance import CLASSIFIER_FREE
from talkverse_jax.diffusion.solvers import start
from talkverse_jax.families.talkverse import clips
from talkverse_jax.families.talkverse.config import TalkVerseConfig
from talkverse_jax.families.talkverse.flops import clip_tokens, step_flops
from talkverse_jax.families.talkverse.model import TalkVerse
from talkverse_jax.models.vae.config import VAEConfig
from talkverse_jax.models.vae.flops import decode_flops, encode_flops
from talkverse_jax.models.vae.model import WanVAE
from talkverse_jax.ops.attention import Attention
from talkverse_jax.ops.attention.cudnn import refusal
from talkverse_jax.ops.conv import conv3d_by_frames, conv3d_whole
from talkverse_jax.sharding.topologies import TOPOLOGIES

CLIP_STEPS = 50
COSINE = 0.999
WANTED_MFU = 0.55  # of one H200
TIMESTEPS = (950, 500, 50)
TINY_MODELS = Path(__file__).parent.parent / "configs" / "model_tiny.toml"


@dataclasses.dataclass(frozen=True)
class Workload:
    """What is run.

    Attributes:
      steps, repeats: timed steps, and timed calls of anything else.
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
    square: int
    goldens: tuple[str, ...]
    attention: str = "auto"
    vae_dtype: str = "float32"

    @classmethod
    def full(cls) -> "Workload":
        goldens = (*gpu_goldens.SMALL, gpu_goldens.FULL_WIDTH)
        return cls(TalkVerseConfig.talkverse_5b(), VAEConfig.wan22(), 120, 640, 640, 8, 3, 8192, goldens)

    @classmethod
    def tiny(cls) -> "Workload":
        models = read_toml(TINY_MODELS)
        dit = from_dict(TalkVerseConfig, models["dit"], str(TINY_MODELS))
        vae = from_dict(VAEConfig, models["vae"], str(TINY_MODELS))
        return cls(dit, vae, 8, 128, 128, 2, 1, 256, ("dit_motion",))

    def latents(self, frames: int) -> tuple[int, ...]:
        """Shape of that many latent frames."""
        stride = self.vae.space_stride
        return (1, frames, self.height // stride, self.width // stride, self.vae.z_dim)


class PartReport:
    """The figures of a part: printed, and written to a file, as they come."""

    def __init__(self, part: str, size: str, path: Path | None):
        device = jax.local_devices()[0]
        self.part, self.path, self.figures = part, path, {}
        self.all = {"device": device.device_kind, "jax": jax.__version__, "size": size, part: self.figures}
        self.add(f"{device.device_kind} ({device.platform}), JAX {jax.__version__}")

    def add(self, line: str, **figures: Any) -> None:
        print(f"{self.part}: {line}", flush=True)
        self.figures |= figures
        if self.path:
            self.path.write_text(json.dumps(self.all, indent=2) + "\n")

    def peak(self) -> None:
        """The most memory that was in use in this process; a CPU keeps no count."""
        peak = (jax.local_devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
        self.add(f"peak memory {peak / 1e9:.1f} GB" if peak else "peak memory unknown", peak_bytes=peak)

    def compiled(self, name: str, function: Any, *args, **static) -> Callable[..., Any]:
        """A jitted function compiled for these arguments."""
        begin = time.perf_counter()
        program = function.lower(*args, **static).compile()
        seconds, temporaries = time.perf_counter() - begin, program.memory_analysis().temp_size_in_bytes
        figures = {f"{name}_compile_seconds": seconds, f"{name}_temporary_bytes": temporaries}
        self.add(f"{name} compiled in {seconds:.0f} s, temporaries {temporaries / 1e9:.1f} GB", **figures)
        return program


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


@partial(jax.jit, static_argnames="times")
def products(x: jax.Array, y: jax.Array, times: int) -> jax.Array:
    return jax.lax.fori_loop(0, times, lambda _, x: x @ y, x)


def product_rate(job: Workload) -> float:
    """FLOP/s of bfloat16 matrix products of random numbers, one after the other for about as long as a step."""
    n, times = job.square, 400
    x, y = (normal(key, (n, n), jnp.bfloat16, 0, std) for key, std in zip(keys(2), (1, n**-0.5)))
    seconds = timed(lambda: products(x, y, times), job.repeats)
    return 2 * n**3 * times / statistics.median(seconds)


def step(job: Workload, report: PartReport) -> None:
    kernel, shape = attention(job), job.latents(job.frames // 4)
    size = dict(frames=shape[1], h=shape[2], w=shape[3], motion=True)
    tokens = clip_tokens(job.dit, **size)[1]
    picture = f"{job.frames} frames at {job.width}x{job.height}"
    report.add(f"{picture}, {tokens} tokens, attention by {kernel}", tokens=tokens, attention=kernel)
    rate = product_rate(job)
    report.add(f"a product of {job.square}x{job.square} matrices runs at {rate / 1e12:.2f} TFLOP/s")

    model = random_model(report, transformer(job, jnp.bfloat16, kernel))
    inputs = clip_inputs(job)
    prepare = report.compiled("prepare", clips.prepare.jitted(), model, *inputs, guided=True)
    seconds = timed(lambda: prepare(model, *inputs), job.repeats)
    report.add(f"conditions of a clip: {min(seconds):.3f} s", prepare_seconds=seconds)
    conditions = prepare(model, *inputs)

    steps = iter(steps_of("unipc", make_schedule("unipc", CLIP_STEPS, 5.0)))
    state, scale = LoopState(start(normal(next(keys(3)), shape))), np.float32(4.5)
    arguments = model, state, next(steps), conditions, scale
    run = report.compiled("step", denoising_step.jitted(), *arguments, guidance=CLASSIFIER_FREE)

    def one() -> jax.Array:
        nonlocal state
        state = run(model, state, next(steps), conditions, scale)
        return state.solver.sample

    seconds = timed(one, job.steps)
    median = statistics.median(seconds)
    spread = f"{min(seconds):.3f} to {max(seconds):.3f}, {job.steps} steps"
    report.add(f"{median:.3f} s a step ({spread})", step_seconds=seconds, seconds_a_step=median)
    assert jnp.isfinite(state.solver.sample).all(), "the sample is not finite"
    report.peak()

    rate = max(rate, product_rate(job))
    flops = step_flops(job.dit, **size, branches=2)
    mfu, device = flops / median / rate, jax.local_devices()[0].device_kind
    report.add(
        f"{flops / 1e12:.3g} TFLOP a step, {flops / median / 1e12:.3g} TFLOP/s; MFU {mfu:.3f} of the "
        f"{rate / 1e12:.3g} TFLOP/s of a matrix product (wanted {WANTED_MFU} on an H200)",
        model_flops=flops,
        flops_a_second=flops / median,
        product_flops_a_second=rate,
        mfu=mfu,
    )
    sheet = next((t.generation.flops for t in TOPOLOGIES.values() if t.generation.device_kind == device), None)
    if sheet:
        share = flops / median / sheet
        report.add(f"MFU {share:.3f} of the data sheet's {sheet / 1e12:.0f} TFLOP/s", mfu_of_data_sheet=share)


def decode(job: Workload, report: PartReport) -> None:
    dtype = jnp.dtype(job.vae_dtype)
    report.add(f"{job.frames} frames at {job.width}x{job.height} in {dtype}", dtype=job.vae_dtype)
    vae = random_model(report, lambda rngs: WanVAE(job.vae, rngs=rngs, dtype=dtype, param_dtype=dtype))
    motion_frames, key = job.dit.motion_latent_frames, keys(4)
    motion, latents = (normal(next(key), job.latents(n)) for n in (motion_frames, job.frames // 4))
    total, h, w = motion_frames + latents.shape[1], *latents.shape[2:4]
    history = normal(next(key), (1, job.dit.motion_frames, job.height, job.width, 3))
    for name, function, args, flops in (
        ("decode", clips.decode, (motion, latents), decode_flops(job.vae, total, h, w)),
        ("encode", clips.encode, (history,), encode_flops(job.vae, history.shape[1], job.height, job.width)),
    ):
        program = report.compiled(name, function, vae, *args)
        seconds = timed(lambda program=program, args=args: program(vae, *args), job.repeats)
        median = statistics.median(seconds)
        report.add(
            f"{name} {median:.2f} s ({min(seconds):.2f} to {max(seconds):.2f}), "
            f"{flops / 1e12:.3g} TFLOP, {flops / median / 1e12:.3g} TFLOP/s",
            **{f"{name}_seconds": seconds, f"seconds_to_{name}": median, f"{name}_flops": flops},
        )
        assert jnp.isfinite(program(vae, *args)).all(), f"{name}: not finite"
        report.peak()


@model_jit
def velocity(model: TalkVerse, latents: jax.Array, timestep: jax.Array, conditions) -> jax.Array:
    return model.velocity(latents, timestep, conditions)


def precision(job: Workload, report: PartReport) -> None:
    kernel = attention(job)
    narrow = random_model(report, transformer(job, jnp.bfloat16, kernel))
    wide = nnx.merge(
        nnx.graphdef(nnx.eval_shape(lambda: transformer(job, jnp.float32, "xla")(nnx.Rngs(0)))),
        jax.tree.map(lambda x: x.astype(jnp.float32), nnx.state(narrow)),
    )
    inputs, latents = clip_inputs(job), normal(next(keys(5)), job.latents(job.frames // 4))

    def velocities(model: TalkVerse) -> list[np.ndarray]:
        conditions = clips.prepare(model, *inputs, guided=False)
        found = [velocity(model, latents, np.full(1, t, np.float32), conditions) for t in TIMESTEPS]
        return [np.asarray(v, np.float64).ravel() for v in found]

    ours = velocities(narrow)
    report.add(f"velocities in bfloat16, attention by {kernel}", attention=kernel)
    with jax.default_matmul_precision("highest"):
        exact = velocities(wide)
    cosines = [float(a @ b / np.linalg.norm(a) / np.linalg.norm(b)) for a, b in zip(ours, exact)]
    apart = [float(np.linalg.norm(a - b) / np.linalg.norm(b)) for a, b in zip(ours, exact)]
    for timestep, cosine, distance in zip(TIMESTEPS, cosines, apart):
        report.add(f"timestep {timestep}: cosine {cosine:.6f}, relative distance {distance:.1e}")
    passed = min(cosines) >= COSINE
    report.add(
        f"{'ok' if passed else 'FAIL'}: cosine at least {COSINE}",
        timesteps=TIMESTEPS,
        cosines=cosines,
        relative_distances=apart,
        passed=passed,
    )
    report.peak()


def goldens(job: Workload, report: PartReport) -> None:
    found: dict[str, float] = {}
    for name in job.goldens:
        for output, error in gpu_goldens.errors(name):
            found[f"{name}/{output}"] = error
            verdict = "ok" if error <= gpu_goldens.LIMIT else "FAIL"
            report.add(f"{name}/{output}: off by {error:.1e} of the largest value, {verdict}", errors=found)
    failed = sum(not error <= gpu_goldens.LIMIT for error in found.values())  # NaN too
    report.add(f"{len(found)} outputs, {failed} failed", passed=not failed)
    report.peak()


def convs(job: Workload, report: PartReport) -> None:
    """Of each level of the decoder: the four frames of a chunk (the coarsest shows one) and the two before them."""
    _, _, h, w, _ = job.latents(1)
    seconds = {}
    for level, multiple in enumerate(reversed(job.vae.dim_mult)):
        channels, frames = multiple * job.vae.dec_dim, (1, 2, 4, 4)[level] + 2
        key = keys(level)
        x = normal(next(key), (1, frames, h << level, w << level, channels))
        kernel = normal(next(key), (3, 3, 3, channels, channels), std=(27 * channels) ** -0.5)
        for name, function in (("whole", conv3d_whole), ("by frames", conv3d_by_frames)):
            run = jax.jit(partial(function, time_stride=1))
            call = f"{channels} channels, {h << level}x{w << level}, {frames - 2} frames, {name}"
            seconds[call] = min(timed(lambda run=run, x=x, kernel=kernel: run(x, kernel), job.repeats))
            flops = 2 * 27 * channels**2 * (h << level) * (w << level) * (frames - 2)
            rate = flops / seconds[call] / 1e12
            report.add(f"{call}: {1e3 * seconds[call]:.2f} ms, {rate:.3g} TFLOP/s", seconds=seconds)


PARTS = {"step": step, "decode": decode, "precision": precision, "goldens": goldens, "convs": convs}
