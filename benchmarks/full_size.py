"""One denoising step of the full 5.7-billion-parameter transformer in bfloat16 on this machine's CPU.

    python benchmarks/full_size.py

A clip of 12 frames at 128x128 with motion context, both branches of guidance, random weights: seconds a step
and peak resident memory (11.4 GB of it are the weights).
"""

import argparse
import resource
import time
import zlib

import jax
import jax.numpy as jnp
import numpy as np

from talkverse_jax.cli.command import run_command
from talkverse_jax.core import tree
from talkverse_jax.diffusion.denoise import LoopState, denoising_step, steps_of
from talkverse_jax.diffusion.flow import make_schedule
from talkverse_jax.diffusion.guidance import CLASSIFIER_FREE
from talkverse_jax.diffusion.solvers import start
from talkverse_jax.families.talkverse.clips import prepare
from talkverse_jax.families.talkverse.components import COMPONENTS

FRAMES, HEIGHT, WIDTH = 12, 128, 128


def random_model():
    """The published size with small random weights, made one tensor at a time."""
    component = COMPONENTS["dit"]
    model = component.abstract(component.real_size(), jnp.bfloat16)
    values = {}
    for path, leaf in tree.abstract_parameters(model).items():
        rng = np.random.default_rng(zlib.crc32(path.encode()))
        row = rng.standard_normal(leaf.shape[-1], dtype=np.float32) / np.sqrt(np.prod(leaf.shape[:-1]) + 1)
        values[path] = jnp.asarray(np.broadcast_to(row.astype(jnp.bfloat16), leaf.shape))
    return tree.with_parameters(model, values)


def inputs(config):
    """Text, negative text, audio, reference and motion of one clip."""
    keys = iter(jax.random.split(jax.random.key(0), 5))
    trunk, grid = config.trunk, (HEIGHT // 16, WIDTH // 16, config.trunk.in_channels)
    return (
        jax.random.normal(next(keys), (1, trunk.text_len, trunk.text_dim)),
        jax.random.normal(next(keys), (1, trunk.text_len, trunk.text_dim)),
        jax.random.normal(next(keys), (1, FRAMES, config.audio_layers, config.audio_dim)),
        jax.random.normal(next(keys), (1, 1, *grid)),
        jax.random.normal(next(keys), (1, config.motion_latent_frames, *grid)),
    )


def peak_gb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def main() -> None:
    argparse.ArgumentParser(description=__doc__.split("\n")[0]).parse_args()
    begin = time.perf_counter()
    model = random_model()
    print(f"weights {time.perf_counter() - begin:.0f} s, peak RSS {peak_gb():.1f} GB", flush=True)

    begin = time.perf_counter()
    conditions = jax.block_until_ready(prepare(model, *inputs(model.config), guided=True))
    print(f"clip conditions {time.perf_counter() - begin:.0f} s with compilation, peak RSS {peak_gb():.1f} GB")

    noise = jax.random.normal(jax.random.key(1), (1, FRAMES // 4, HEIGHT // 16, WIDTH // 16, 48))
    state, seconds = LoopState(start(noise)), []
    for step in steps_of("unipc", make_schedule("unipc", 2, 5.0)):
        begin = time.perf_counter()
        state = denoising_step(model, state, step, conditions, np.float32(4.5), guidance=CLASSIFIER_FREE)
        jax.block_until_ready(state.solver.sample)
        seconds.append(time.perf_counter() - begin)
    assert np.isfinite(np.asarray(state.solver.sample)).all()
    print(f"first step {seconds[0]:.0f} s with compilation, second {seconds[1]:.1f} s")
    print(f"peak RSS {peak_gb():.1f} GB")


if __name__ == "__main__":
    run_command(main)
