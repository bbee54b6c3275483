"""The parts of `gpu.py` that run our own models: each measures one thing and reports it line by line."""

import statistics
from functools import partial

import gpu_goldens
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from gpu_report import PartReport
from gpu_step import velocity
from gpu_workload import Workload, attention, clip_inputs, keys, normal, random_model, timed, transformer

from talkverse_jax.families.talkverse import clips
from talkverse_jax.families.talkverse.model import TalkVerse
from talkverse_jax.models.vae.flops import decode_flops, encode_flops
from talkverse_jax.models.vae.model import WanVAE
from talkverse_jax.ops.conv import conv3d_by_frames, conv3d_whole

COSINE = 0.999
TIMESTEPS = (950, 500, 50)


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


def precision(job: Workload, report: PartReport) -> None:
    kernel = attention(job)
    narrow = random_model(report, transformer(job, jnp.bfloat16, kernel))
    wide = nnx.merge(
        nnx.graphdef(nnx.eval_shape(lambda: transformer(job, jnp.float32, "xla")(nnx.Rngs(0)))),
        jax.tree.map(lambda x: x.astype(jnp.float32), nnx.state(narrow)),
    )
    inputs, latents = clip_inputs(job), normal(next(keys(5)), job.clip)

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
