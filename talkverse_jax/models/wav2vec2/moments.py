"""Mean and variance of a sound's channels, of parts that are added up: a sound need not be in memory whole.

Shapes: B batch, T vectors, C channels.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Float64


class Moments(NamedTuple):
    """Of every channel over the time of a part; in JAX in float32, added up on the host in float64.

    Attributes:
      count: of the vectors.
      mean: of each channel.
      squares: the sum of the squares of what each is off its mean.
    """

    count: Float[Array, " B"] | Float64[np.ndarray, " B"]
    mean: Float[Array, "B C"] | Float64[np.ndarray, "B C"]
    squares: Float[Array, "B C"] | Float64[np.ndarray, "B C"]

    @classmethod
    def of(cls, x: Float[Array, "B T C"], counted: Bool[Array, "B T"]) -> "Moments":
        """Of the vectors that count."""
        x = x.astype(jnp.float32)
        count = counted.sum(1).astype(jnp.float32)
        mean = jnp.where(counted[..., None], x, 0).sum(1) / jnp.maximum(count, 1)[:, None]
        off = jnp.where(counted[..., None], x - mean[:, None], 0)
        return cls(count, mean, jnp.square(off).sum(1))

    def double(self) -> "Moments":
        """The same in float64, on the host."""
        return Moments(*(np.asarray(each, np.float64) for each in self))

    def joined(self, other: "Moments") -> "Moments":
        """Of both parts together (Chan, Golub and LeVeque's formula: nothing large cancels)."""
        count = self.count + other.count
        share = (other.count / count.clip(1))[:, None]
        apart = other.mean - self.mean
        squares = self.squares + other.squares + apart**2 * share * self.count[:, None]
        return Moments(count, self.mean + apart * share, squares)

    @property
    def variance(self) -> Float[Array, "B C"] | Float64[np.ndarray, "B C"]:
        """The population's."""
        return self.squares / self.count.clip(1)[:, None]
