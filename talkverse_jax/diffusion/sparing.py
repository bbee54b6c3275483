"""Steps that compute less than everything, and make the rest out of the steps before them.

A velocity changes little from step to step, and so does what guidance adds to it. What a step leaves out is drawn on in
a straight line over the noise level, through the last two steps that computed it:

    y(sigma) = newer + ahead (newer - older),    ahead = (sigma - sigma_newer) / (sigma_newer - sigma_older)

What each step computes is known before the first one, by settings and schedule alone. So all clips of a video, all
videos of a pack, all processes and a run that goes on after a stop leave out the same, and nothing is handed from clip
to clip.

Shapes: B samples, F latent frames, h w latent grid, C latent channels.
"""

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from talkverse_jax.diffusion.guidance import Guidance, Velocity

# What a step computes: everything; all of the model but its blocks, whose result an earlier step left (see
# `CachingDenoiser`); guidance's first branch alone; nothing.
Computed = Literal["all", "ends", "first", "none"]


class Line(NamedTuple):
    """Something of the last two steps that computed it; zeros where there were fewer."""

    older: Velocity
    newer: Velocity

    def then(self, value: Velocity) -> "Line":
        """A step later."""
        return Line(self.newer, value)

    def at(self, ahead: Float[Array, ""] | float) -> Velocity:
        """Drawn on, in steps from older to newer."""
        return self.newer + ahead * (self.newer - self.older)


class Sparing(NamedTuple):
    """What a walk that spares hands from step to step.

    Attributes:
      own: guidance's own state.
      added: to the first branch's velocity by guidance.
      velocity: guided.
    """

    own: Any
    added: Line
    velocity: Line


class Numbers(NamedTuple):
    """Of a step: the scales of guidance, and how far ahead each line is drawn."""

    scales: Any
    added: Float[Any, ""]
    velocity: Float[Any, ""]


def everything(steps: int) -> list[Computed]:
    """By so many steps."""
    return ["all"] * steps


def without_blocks(skips: Sequence[bool]) -> list[Computed]:
    """By steps of which some leave the blocks out."""
    return ["ends" if skip else "all" for skip in skips]


def spare(
    steps: int, *, model_every: int = 1, guide_every: int = 1, window: tuple[float, float] = (0.0, 1.0)
) -> list[Computed]:
    """What each step computes.

    Args:
      model_every: within the window, one in so many steps runs the model.
      guide_every: of these, one in so many runs all branches.
      window: the share of the steps before it begins, and before it ends. The first step computes everything.
    """
    begin, end = max(1, math.ceil(window[0] * steps)), math.floor(window[1] * steps)
    found: list[Computed] = []
    for number in range(steps):
        place, kind = number - begin, "all"
        if begin <= number < end:
            turn, left = divmod(place + 1, model_every)
            kind = "none" if left else "first" if turn % guide_every else "all"
        found.append(kind)
    return found


@dataclasses.dataclass(frozen=True)
class Walk:
    """The steps of a clip: how each is guided. All hand on one state.

    Args:
      guidance: of a step that computes everything.
      computed: what each step computes.

    Raises:
      ValueError: the first step computes less than everything, or blocks are left out beside branches.
    """

    guidance: Guidance
    computed: Sequence[Computed]

    def __post_init__(self):
        if self.computed[0] != "all":
            raise ValueError("computed: the first step computes all")
        if self.spares and "ends" in self.computed:
            raise ValueError("computed: blocks are left out where every step runs all branches, and not beside others")

    @property
    def spares(self) -> bool:
        """Whether there are lines to be kept."""
        return not {"first", "none"}.isdisjoint(self.computed)

    def guided(self, computed: Computed) -> Guidance:
        """The guidance of a step."""
        return _sparing(self.guidance, computed) if self.spares else self.guidance

    def start(self, latents: Velocity) -> Any:
        """The state before the first step."""
        return self.guided("all").start(latents)

    def scales(self, scales: Any, ahead: tuple[Any, Any] = (0.0, 0.0)) -> Any:
        """What a step's guidance takes.

        Args:
          scales: of the walk's guidance.
          ahead: how far what guidance adds, and the velocity, are drawn on.
        """
        return Numbers(scales, *ahead) if self.spares else scales

    def ahead(self, sigmas: Sequence[float]) -> list[tuple[np.float32, np.float32]]:
        """How far each step is ahead.

        Args:
          sigmas: of the steps.
        """
        found, added, velocity = [], [], []
        for kind, sigma in zip(self.computed, sigmas, strict=True):
            found.append((_ahead(added, sigma), _ahead(velocity, sigma)))
            if kind == "all":
                added.append(sigma)
            if kind != "none":
                velocity.append(sigma)
        return found


def _ahead(levels: Sequence[float], sigma: float) -> np.float32:
    """How far a noise level lies ahead of the last two of those at which something was computed."""
    if len(levels) < 2:
        return np.float32(0)
    older, newer = levels[-2:]
    return np.float32((sigma - newer) / (newer - older))


@functools.cache  # another function is another program
def _sparing(guidance: Guidance, computed: Computed) -> Guidance:
    def start(latents: Velocity) -> Sparing:
        nothing = [jnp.zeros_like(latents, jnp.float32) for _ in range(4)]  # a compiled step may reuse each
        return Sparing(guidance.start(latents), Line(*nothing[:2]), Line(*nothing[2:]))

    def all_branches(velocities: Sequence[Velocity], numbers: Numbers, state: Sparing) -> tuple[Velocity, Sparing]:
        velocity, own = guidance.combine(velocities, numbers.scales, state.own)
        added = state.added.then(velocity - velocities[0])
        return velocity, Sparing(own, added, state.velocity.then(velocity))

    def first_branch(velocities: Sequence[Velocity], numbers: Numbers, state: Sparing) -> tuple[Velocity, Sparing]:
        velocity = velocities[0] + state.added.at(numbers.added)
        return velocity, state._replace(velocity=state.velocity.then(velocity))

    def no_model(velocities: Sequence[Velocity], numbers: Numbers, state: Sparing) -> tuple[Velocity, Sparing]:
        return state.velocity.at(numbers.velocity), state

    if computed == "none":
        return Guidance(0, no_model, start)
    if computed == "first":
        return Guidance(1, first_branch, start)
    return Guidance(guidance.branches, all_branches, start)
