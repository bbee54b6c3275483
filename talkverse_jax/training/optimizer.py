"""An optimizer with a rate, and a clipping of the gradient's norm, for each group of parameters.

AdamW keeps two numbers for each parameter; Adafactor (Shazeer and Stern 2018) one for each row and column of a large
matrix. Its updates are not scaled by the parameters' own size, so that a rate means about the same for both.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import optax

from talkverse_jax.training.names import OptimizerName, ScheduleName
from talkverse_jax.training.strategy import GROUPS, Group

_CLIP = 1.0  # norm of a group's gradient
_EPS = 1e-8


@dataclasses.dataclass(frozen=True)
class Rates:
    """Learning rates.

    Attributes:
      base: of the group `rest`.
      lora, scaled: times that, of these groups.
      warmup: updates until the rates are whole; they rise linearly from 0, so the first update changes nothing.
      shape: what follows. cosine: they fall to 0 until update `steps`. restarts: they fall to 0 within `steps` updates,
        again and again.
    """

    base: float = 1e-5
    lora: float = 10.0
    scaled: float = 10.0
    warmup: int = 1000
    shape: ScheduleName = "constant"
    steps: int = 0

    def schedule(self, group: Group) -> optax.Schedule:
        """A group's rate by the number of updates before."""
        whole = self.base * {"lora": self.lora, "scaled": self.scaled, "rest": 1.0}[group]
        rising = optax.linear_schedule(0.0, whole, self.warmup)
        if self.shape == "constant":
            return rising if self.warmup else optax.constant_schedule(whole)
        falling = optax.cosine_decay_schedule(whole, self.steps - self.warmup * (self.shape == "cosine"))
        again = lambda update: falling(update % self.steps)  # noqa: E731
        return optax.join_schedules([rising, falling if self.shape == "cosine" else again], [self.warmup])


def make_optimizer(
    groups: Mapping[str, Group],
    rates: Rates,
    name: OptimizerName = "adamw",
    betas: Sequence[float] = (0.9, 0.999),
    decay: float = 0.01,
) -> optax.GradientTransformation:
    """The optimizer of parameters by key, each of a group.

    Args:
      betas, decay: of AdamW.
    """
    transforms: dict[Any, optax.GradientTransformation] = {
        group: optax.chain(optax.clip_by_global_norm(_CLIP), _rule(name, rates.schedule(group), betas, decay))
        for group in GROUPS
    }
    return optax.partition(transforms, dict(groups))


def _rule(
    name: OptimizerName, rate: optax.Schedule, betas: Sequence[float], decay: float
) -> optax.GradientTransformation:
    if name == "adafactor":
        return optax.adafactor(rate, multiply_by_parameter_scale=False)
    return optax.adamw(rate, *betas, eps=_EPS, weight_decay=decay)
