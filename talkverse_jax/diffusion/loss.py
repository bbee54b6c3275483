"""The training loss: flow matching, weighted by face and body where masks are given.

    x = (1 - sigma) data + sigma noise,    sigma = 0.999 (t + 1) / 1000,    t uniform in 0 .. 999, or logit-normal
    loss = mean(w (velocity(x, t) - (noise - data))^2) / mean(w)

Shapes: B samples, F latent frames, h w latent grid, C latent channels.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key, UInt

from talkverse_jax.diffusion.flow import NUM_TRAIN_TIMESTEPS, moved

_HIGHEST_SIGMA = 1 - 1 / NUM_TRAIN_TIMESTEPS

# Of the face and body weights.
_BLUR_SIGMA = 1.0  # latent cells
_BLUR_RADIUS = 3
_SMALL_FACE = 0.1  # share of the picture below which a face weighs more
_MOST_BOOST = 5.0
_EPS = 1e-6


class Draw(NamedTuple):
    """What is random about flow matching, per sample.

    Attributes:
      drop: of each condition whether it is left out, so that guidance has something to guide away from.
    """

    timestep: Int[Array, " B"]
    noise: Float[Array, "B F h w C"]
    drop: Any


Timestep = Callable[[Key[Array, ""]], Int[Array, ""]]  # one drawn of a key


def uniform(key: Key[Array, ""]) -> Int[Array, ""]:
    """Every timestep as often as every other."""
    return jax.random.randint(key, (), 0, NUM_TRAIN_TIMESTEPS)


class LogitNormal(NamedTuple):
    """Timesteps whose share t / 1000 has a logit that is normally distributed: those between data and noise more often
    (Esser et al. 2024, "Scaling Rectified Flow Transformers", section 3.1).

    Attributes:
      mean: of the logit; above 0 there is more noise.
    """

    mean: float
    std: float

    def __call__(self, key: Key[Array, ""]) -> Int[Array, ""]:
        share = jax.nn.sigmoid(self.mean + self.std * jax.random.normal(key))
        return jnp.minimum((NUM_TRAIN_TIMESTEPS * share).astype(jnp.int32), NUM_TRAIN_TIMESTEPS - 1)


class Shifted(NamedTuple):
    """Timesteps that lie evenly before they are moved towards noise, as those of sampling are.

    Attributes:
      shift: 1 leaves them where they are.
    """

    shift: float

    def __call__(self, key: Key[Array, ""]) -> Int[Array, ""]:
        even = jax.random.uniform(key)
        share = moved(even, self.shift)
        return jnp.minimum((NUM_TRAIN_TIMESTEPS * share).astype(jnp.int32), NUM_TRAIN_TIMESTEPS - 1)


def timesteps(logit_normal: Sequence[float], shift: float) -> Timestep:
    """How timesteps are drawn.

    Args:
      logit_normal: mean and deviation of the logit; nothing: all alike before the shift.
    """
    return LogitNormal(*logit_normal) if logit_normal else uniform if shift == 1 else Shifted(shift)


def sample_keys(seed: int, ids: UInt[Array, "B n"]) -> Key[Array, " B"]:
    """A key for every sample: a function of the seed and of the sample's own numbers, so that neither the batch it is
    in nor the mesh changes what is drawn with it."""

    def of_sample(numbers: UInt[Array, " n"]) -> jax.Array:
        key = jax.random.key(seed)
        for number in numbers:
            key = jax.random.fold_in(key, number)
        return key

    return jax.vmap(of_sample)(ids)


def draw(keys: Key[Array, " B"], shape: tuple[int, ...], dropouts: Any, draw_timestep: Timestep = uniform) -> Draw:
    """Timestep, noise and dropouts of every sample, each of its own key.

    Args:
      shape: F h w C.
      dropouts: how often each condition is left out, a NamedTuple; `drop` of the result is one too.
    """

    def of_sample(key: jax.Array) -> Draw:
        time, noise, *drops = jax.random.split(key, 2 + len(dropouts))
        return Draw(
            draw_timestep(time),
            jax.random.normal(noise, shape, jnp.float32),
            type(dropouts)(*(jax.random.bernoulli(k, float(p)) for k, p in zip(drops, dropouts))),
        )

    return jax.vmap(of_sample)(keys)


def noise_level(timestep: Int[Array, " B"]) -> Float[Array, " B"]:
    """sigma of a training timestep."""
    return _HIGHEST_SIGMA * (timestep + 1).astype(jnp.float32) / NUM_TRAIN_TIMESTEPS


def noisy(
    data: Float[Array, "B F h w C"], noise: Float[Array, "B F h w C"], timestep: Int[Array, " B"]
) -> Float[Array, "B F h w C"]:
    """The sample on its way to noise."""
    sigma = noise_level(timestep)[:, None, None, None, None]
    return (1 - sigma) * data + sigma * noise


def sample_losses(
    velocity: Float[Array, "B F h w C"],
    data: Float[Array, "B F h w C"],
    noise: Float[Array, "B F h w C"],
    weights: Float[Array, "B F h w"] | None,
    temporal: float = 0.0,
) -> Float[Array, " B"]:
    """The loss of each sample; weights are normalised per sample.

    Args:
      temporal: how much it counts besides that a frame is wrong in another way than the one before it: that what moves
        is wrong.
    """
    wrong = velocity - (noise - data)
    losses = _mean(jnp.square(wrong), weights)
    if temporal:
        both = None if weights is None else jnp.minimum(weights[:, 1:], weights[:, :-1])
        losses += temporal * _mean(jnp.square(wrong[:, 1:] - wrong[:, :-1]), both)
    return losses


def _mean(squares: Float[Array, "B F h w C"], weights: Float[Array, "B F h w"] | None) -> Float[Array, " B"]:
    errors = jnp.mean(squares, axis=-1)
    if weights is None:
        return jnp.mean(errors, axis=(1, 2, 3))
    return jnp.mean(weights * errors, axis=(1, 2, 3)) / (jnp.mean(weights, axis=(1, 2, 3)) + _EPS)


def roi_weights(face: UInt[Array, "B F h w"], body: UInt[Array, "B F h w"]) -> Float[Array, "B F h w"]:
    """1 + face + body, both blurred; a small face weighs up to five times as much.

    Args:
      face, body: 1 inside, 0 outside, on the latent grid.
    """
    face, body = face.astype(jnp.float32), body.astype(jnp.float32)
    share = jnp.mean((face > 0.5).astype(jnp.float32), axis=(2, 3), keepdims=True)
    boost = jnp.minimum(_SMALL_FACE / (share + _EPS), _MOST_BOOST)
    boost = jnp.where((share > 0) & (share < _SMALL_FACE), boost, 1.0)
    return 1 + _blur(face) * boost + _blur(body)


def _blur(mask: Float[Array, "B F h w"]) -> Float[Array, "B F h w"]:
    """Gaussian over rows, then columns; what lies outside is the nearest cell."""
    taps = [math.exp(-0.5 * (i / _BLUR_SIGMA) ** 2) for i in range(-_BLUR_RADIUS, _BLUR_RADIUS + 1)]
    for axis in (2, 3):
        length = mask.shape[axis]
        index = np.clip(np.arange(length)[:, None] + np.arange(-_BLUR_RADIUS, _BLUR_RADIUS + 1), 0, length - 1)
        band = np.zeros((length, length), np.float32)
        np.add.at(band, (np.arange(length)[:, None], index), np.float32(np.array(taps) / sum(taps)))
        mask = jnp.moveaxis(jnp.tensordot(mask, band, axes=(axis, 1), precision="highest"), -1, axis)
    return jnp.clip(mask, 0, 1)
