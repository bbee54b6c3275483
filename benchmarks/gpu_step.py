"""Parts `step` and `int8` of `gpu.py`: a denoising step in bfloat16, and with int8 kernels and products."""

import collections
import glob
import statistics
import tempfile
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from gpu_report import PartReport
from gpu_workload import CLIP_STEPS, Workload, attention, clip_inputs, keys, normal, random_model, timed, transformer

from talkverse_jax.core.compilation import model_jit
from talkverse_jax.diffusion.denoise import LoopState, denoising_step, steps_of
from talkverse_jax.diffusion.flow import make_schedule
from talkverse_jax.diffusion.guidance import CLASSIFIER_FREE
from talkverse_jax.diffusion.solvers import start
from talkverse_jax.families.talkverse import clips
from talkverse_jax.families.talkverse.flops import step_flops
from talkverse_jax.families.talkverse.model import ClipConditions, TalkVerse
from talkverse_jax.models.wan.linear import Linear
from talkverse_jax.sharding.topologies import TOPOLOGIES

WANTED_MFU = 0.55  # of one H200
LONGEST = 15  # kernels that are listed


@partial(jax.jit, static_argnames="times")
def products(x: jax.Array, y: jax.Array, times: int) -> jax.Array:
    return jax.lax.fori_loop(0, times, lambda _, x: x @ y, x)


def product_rate(job: Workload) -> float:
    """FLOP/s of bfloat16 matrix products of random numbers, one after the other for about as long as a step."""
    n, times = job.square, 400
    x, y = (normal(key, (n, n), jnp.bfloat16, 0, std) for key, std in zip(keys(2), (1, n**-0.5)))
    seconds = timed(lambda: products(x, y, times), job.repeats)
    return 2 * n**3 * times / statistics.median(seconds)


@model_jit
def velocity(model: TalkVerse, latents: jax.Array, timestep: jax.Array, conditions: ClipConditions) -> jax.Array:
    return model.velocity(latents, timestep, conditions)


def conditions_of(job: Workload, report: PartReport, model: TalkVerse) -> ClipConditions:
    """What the steps of a clip share."""
    inputs = clip_inputs(job)
    prepare = report.compiled("prepare", clips.prepare.jitted(), model, *inputs, guided=True)
    seconds = timed(lambda: prepare(model, *inputs), job.repeats)
    report.add(f"conditions of a clip: {min(seconds):.3f} s", prepare_seconds=seconds)
    return prepare(model, *inputs)


def stepper(job: Workload, report: PartReport, model: TalkVerse, conditions: ClipConditions) -> Callable[[], jax.Array]:
    """A function that makes the next step of a clip and gives its sample."""
    steps = iter(steps_of("unipc", make_schedule("unipc", CLIP_STEPS, 5.0)))
    state, scale = LoopState(start(normal(next(keys(3)), job.clip))), np.float32(4.5)
    arguments = model, state, next(steps), conditions, scale
    run = report.compiled("step", denoising_step.jitted(), *arguments, guidance=CLASSIFIER_FREE)

    def one() -> jax.Array:
        nonlocal state
        state = run(model, state, next(steps), conditions, scale)
        return state.solver.sample

    return one


def measure(job: Workload, report: PartReport, one: Callable[[], jax.Array]) -> float:
    """Seconds of a step."""
    seconds = timed(one, job.steps)
    median = statistics.median(seconds)
    spread = f"{min(seconds):.3f} to {max(seconds):.3f}, {job.steps} steps"
    report.add(f"{median:.3f} s a step ({spread})", step_seconds=seconds, seconds_a_step=median)
    assert jnp.isfinite(one()).all(), "the sample is not finite"
    report.peak()
    return median


def longest_kernels(report: PartReport, run: Callable[[], Any]) -> None:
    """What a call spends its time in, as the profiler sees it."""
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            jax.block_until_ready(run())
        [path] = glob.glob(f"{folder}/**/*.xplane.pb", recursive=True)
        planes = list(jax.profiler.ProfileData.from_file(path).planes)
    device = [plane for plane in planes if plane.name.startswith("/device:") and list(plane.lines)]
    times = collections.Counter()
    for plane in device or planes:
        for line in plane.lines:
            for event in line.events if line.name.startswith("Stream") or not device else ():
                if not event.name.startswith("$"):  # a line of Python
                    times[event.name] += event.duration_ns / 1e6
    longest = dict(times.most_common(LONGEST))
    report.add("longest kernels, ms:", kernel_ms=longest, all_kernels_ms=sum(times.values()))
    for name, ms in longest.items():
        report.add(f"  {ms:9.2f}  {name[:100]}")


def step(job: Workload, report: PartReport) -> None:
    kernel = attention(job)
    picture = f"{job.frames} frames at {job.width}x{job.height}"
    report.add(f"{picture}, {job.tokens} tokens, attention by {kernel}", tokens=job.tokens, attention=kernel)
    rate = product_rate(job)
    report.add(f"a product of {job.square}x{job.square} matrices runs at {rate / 1e12:.2f} TFLOP/s")
    model = random_model(report, transformer(job, jnp.bfloat16, kernel))
    one = stepper(job, report, model, conditions_of(job, report, model))
    median = measure(job, report, one)
    rate = max(rate, product_rate(job))
    _utilisation(job, report, median, rate)
    report.attempt("profiler", longest_kernels, report, one)


def _utilisation(job: Workload, report: PartReport, seconds: float, rate: float) -> None:
    _, frames, h, w, _ = job.clip
    flops = step_flops(job.dit, frames, h, w, motion=True, branches=2)
    mfu, device = flops / seconds / rate, jax.local_devices()[0].device_kind
    report.add(
        f"{flops / 1e12:.3g} TFLOP a step, {flops / seconds / 1e12:.3g} TFLOP/s; MFU {mfu:.3f} of the "
        f"{rate / 1e12:.3g} TFLOP/s of a matrix product (wanted {WANTED_MFU} on an H200)",
        model_flops=flops,
        flops_a_second=flops / seconds,
        product_flops_a_second=rate,
        mfu=mfu,
    )
    sheet = next((t.generation.flops for t in TOPOLOGIES.values() if t.generation.device_kind == device), None)
    if sheet:
        share = flops / seconds / sheet
        report.add(f"MFU {share:.3f} of the data sheet's {sheet / 1e12:.0f} TFLOP/s", mfu_of_data_sheet=share)


def int8(job: Workload, report: PartReport) -> None:
    """The kernels of `step` rounded to int8; every product rounds its rows too."""
    kernel = attention(job)
    model = random_model(report, transformer(job, jnp.bfloat16, kernel))
    inputs = normal(next(keys(5)), (2, *job.clip[1:])), np.full(2, 500, np.float32)
    exact = velocity(model, *inputs, clips.prepare(model, *clip_inputs(job), guided=True))
    _round_kernels(model)
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(nnx.state(model)))
    report.add(f"{size / 1e9:.1f} GB of weights with int8 kernels", weight_bytes=size)
    conditions = conditions_of(job, report, model)
    rounded = velocity(model, *inputs, conditions)
    distance = float(jnp.linalg.norm((rounded - exact).ravel()) / jnp.linalg.norm(exact.ravel()))
    report.add(f"velocity off by {distance:.1e} of bfloat16's", relative_distance=distance)
    measure(job, report, stepper(job, report, model, conditions))


def _round_kernels(model: nnx.Module) -> None:
    for _, layer in nnx.iter_graph(model):
        if isinstance(layer, Linear):
            numbers, scale = _rounded(layer.kernel.get_value())
            layer.quantise("int8")
            layer.kernel, layer.scale = nnx.Param(numbers), nnx.Param(scale)


@jax.jit
def _rounded(kernel: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Kernels [..., I, O] as int8 and the scales [..., O]."""
    scale = jnp.abs(kernel.astype(jnp.float32)).max(axis=-2) / 127
    return jnp.round(kernel / scale[..., None, :]).astype(jnp.int8), scale
