"""AdamW with a rate, and a clipping of the gradient's norm, for each group of parameters."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import optax

from talkverse_jax.training.strategy import GROUPS, Group

_CLIP = 1.0  # norm of a group's gradient
_BETAS = 0.9, 0.999
_EPS = 1e-8
_DECAY = 0.01


@dataclasses.dataclass(frozen=True)
class Rates:
    """Learning rates.

    Attributes:
      base: of the group `rest`.
      lora, scaled: times that, of these groups.
      warmup: updates until the rates are whole; they rise linearly from 0, so the first update changes nothing.
    """

    base: float = 1e-5
    lora: float = 10.0
    scaled: float = 10.0
    warmup: int = 1000

    def schedule(self, group: Group) -> optax.Schedule:
        """A group's rate by the number of updates before."""
        whole = self.base * {"lora": self.lora, "scaled": self.scaled, "rest": 1.0}[group]
        if not self.warmup:
            return optax.constant_schedule(whole)
        return optax.linear_schedule(0.0, whole, self.warmup)


def make_optimizer(groups: Mapping[str, Group], rates: Rates) -> optax.GradientTransformation:
    """The optimizer of parameters by key, each of a group."""
    transforms: dict[Any, optax.GradientTransformation] = {
        group: optax.chain(
            optax.clip_by_global_norm(_CLIP),
            optax.adamw(rates.schedule(group), *_BETAS, eps=_EPS, weight_decay=_DECAY),
        )
        for group in GROUPS
    }
    return optax.partition(transforms, dict(groups))
