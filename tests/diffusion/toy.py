"""A denoiser small enough to be written again as a loop over NumPy arrays."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from talkverse_jax.diffusion.flow import Schedule
from talkverse_jax.diffusion.solvers import fresh_noise
from talkverse_jax.sharding.layout import Layout

SHAPE = (2, 3, 2, 2, 4)  # B F h w C
SIGMAS = np.array([1.0, 0.7, 0.4, 0.2, 0.0])
SCHEDULE = Schedule(SIGMAS, 1000 * SIGMAS[:-1])


class Pull(nnx.Module):
    """velocity = rate * (x - target) + t / 1000, the target a condition of each row."""

    def __init__(self, rate: float = 1.5):
        self.layout = Layout()
        self.rate = nnx.Param(jnp.float32(rate))

    def prepare(self, *targets):
        return {"target": jnp.concatenate([jnp.full((SHAPE[0], 1, 1, 1, 1), target) for target in targets])}

    def velocity(self, latents, timestep, conditions):
        moved = self.rate.get_value() * (latents - conditions["target"])
        return moved + timestep[:, None, None, None, None] / 1000


class CachingPull(Pull):
    """Keeps what the pull added, and uses it again."""

    def cached_velocity(self, latents, timestep, conditions, cache):
        pull = self.rate.get_value() * (latents - conditions["target"]) if cache is None else cache
        return pull + timestep[:, None, None, None, None] / 1000, pull


class HoldFirstFrames(NamedTuple):
    """The first latent frames are known: clean before a call, under fresh noise after an update."""

    known: jax.Array

    def before(self, latents, step, keys):
        return latents.at[:, : self.known.shape[1]].set(self.known)

    def after(self, latents, step, keys):
        sigma = step.coefficients.following
        noise = fresh_noise(keys, self.known.shape)
        return latents.at[:, : self.known.shape[1]].set((1 - sigma) * self.known + sigma * noise)


def noise(seed: int = 0) -> jax.Array:
    return jax.random.normal(jax.random.key(seed), SHAPE)


BEFORE, BETWEEN, AFTER = range(3)  # what a step draws: before the call, for the solver, after the update


def drawn(keys, number: int, part: int, shape: tuple[int, ...]):
    """The noise of a step's part, sample by sample."""
    of_samples = [jax.random.split(jax.random.fold_in(key, number), 3)[part] for key in keys]
    return jnp.stack([jax.random.normal(key, shape[1:]) for key in of_samples])


def pull(x, target: float, sigma: float, rate: float = 1.5):
    """The velocity of one branch."""
    return rate * (x - target) + sigma
