"""Guidance as data: how many branches a model computes, and what becomes of their velocities.

Shapes: B samples, F latent frames, h w latent grid, C latent channels.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Literal

from jaxtyping import Array, Float

Velocity = Float[Array, "B F h w C"]
Part = Literal["all", "wordless", "neither"]  # a branch: of everything, without the words, without the sound too


@dataclasses.dataclass(frozen=True)
class Guidance:
    """A way of guiding. Hashable: another one is another program, other scales are not.

    Attributes:
      branches: rows of conditions for each sample: those of all samples' first branch, then of their second ...
      combine: (velocities by branch, scales, state) -> (guided velocity, state for the next step); traced. `scales`
        and `state` are pytrees of its own, such as two numbers, or running averages.
      start: the state before a clip's first step, given its latents.
    """

    branches: int
    combine: Callable[[Sequence[Velocity], Any, Any], tuple[Velocity, Any]]
    start: Callable[[Velocity], Any] = lambda latents: None


def _plain(velocities: Sequence[Velocity], scales: Any, state: Any) -> tuple[Velocity, Any]:
    (velocity,) = velocities
    return velocity, state


def _classifier_free(
    velocities: Sequence[Velocity], scale: Float[Array, ""] | float, state: Any
) -> tuple[Velocity, Any]:
    conditional, unconditional = velocities
    return unconditional + scale * (conditional - unconditional), state


PLAIN = Guidance(1, _plain)

# u + scale (c - u); the conditional branch comes first (Ho and Salimans 2022, arXiv:2207.12598)
CLASSIFIER_FREE = Guidance(2, _classifier_free)
