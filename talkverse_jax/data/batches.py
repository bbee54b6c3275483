"""Which samples make up batch number n: a function of the samples' shapes, the batch size and a seed.

So the place of a run in its data is one number, and nothing about it depends on devices, processes or workers.

Samples of one shape form a group. A group's samples are an endless stream, epoch after epoch, each in an
order of its own; the stream is cut into batches, so that none is padded and no sample is lost or repeated (a
batch may hold the end of one epoch and the start of the next). Epoch e of the plan has the batches of every
group whose last sample is of epoch e, all groups' together in random order.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Int64

from talkverse_jax.core.errors import UserError

Kind = Literal["motion", "short"]

# What is drawn, so that no two of [seed, epoch, ...] are the same: numpy takes a missing number for 0.
_ORDER, _SHUFFLE = 1, 2


class WindowShape(NamedTuple):
    """What a batch's samples have in common.

    Attributes:
      height, width: of the pictures, in pixels.
      kind: "motion": the frames to be learnt follow motion frames; "short": there are none.
    """

    height: int
    width: int
    kind: Kind


class SampleId(NamedTuple):
    """A sample of an epoch; everything random about it is a function of this and the run's seed."""

    epoch: int
    sample: int

    def rng(self, seed: int) -> np.random.Generator:
        """For what is drawn on the host."""
        return np.random.default_rng([seed, self.epoch, self.sample])


@dataclass(frozen=True)
class Batch:
    """One batch of the plan, over all processes."""

    number: int
    shape: WindowShape
    samples: tuple[SampleId, ...]


@dataclass(frozen=True, eq=False)
class BatchOrder:
    """`plan[n]` is batch n, for any n >= 0, in any order.

    Attributes:
      shapes: of the samples, by number.
      batch_size: over all devices and processes.

    Raises:
      UserError: there are no samples.
    """

    shapes: Sequence[WindowShape]
    batch_size: int
    seed: int
    _groups: dict[WindowShape, Int64[np.ndarray, " n"]] = field(init=False, repr=False)

    def __post_init__(self):
        if not self.shapes:
            raise UserError("no sample is left to train on; see skipped.jsonl for what is wrong with each")
        members: dict[WindowShape, list[int]] = {}
        for sample, shape in enumerate(self.shapes):
            members.setdefault(WindowShape(*shape), []).append(sample)
        object.__setattr__(self, "_groups", {shape: np.array(members[shape]) for shape in sorted(members)})

    def __getitem__(self, number: int) -> Batch:
        if number < 0:
            raise IndexError(f"batch {number}: the first one is 0")
        epoch = self.epoch(number)
        group, cut = _order(self, epoch)[number - self.first(epoch)]
        shape, members = list(self._groups.items())[group]
        places = range(cut * self.batch_size, (cut + 1) * self.batch_size)
        samples = []
        for place in places:
            turn, at = divmod(place, len(members))
            samples.append(SampleId(turn, int(members[_permutation(self, turn, group)[at]])))
        return Batch(number, shape, tuple(samples))

    def first(self, epoch: int) -> int:
        """The number of the epoch's first batch (of the next one's, where it has none)."""
        return sum(epoch * len(members) // self.batch_size for members in self._groups.values())

    def epoch(self, number: int) -> int:
        """The epoch that batch is in."""
        most = (number + 1 + len(self._groups)) * self.batch_size // len(self.shapes) + 1
        return bisect_right(range(most + 1), number, key=self.first) - 1

    def __reduce__(self):
        return BatchOrder, (tuple(self.shapes), self.batch_size, self.seed)


@lru_cache(maxsize=4)
def _order(plan: BatchOrder, epoch: int) -> list[tuple[int, int]]:
    """The epoch's batches as (group, which of the group's)."""
    size = plan.batch_size
    batches = [
        (group, cut)
        for group, members in enumerate(plan._groups.values())
        for cut in range(epoch * len(members) // size, (epoch + 1) * len(members) // size)
    ]
    order = np.random.default_rng([plan.seed, epoch, 0, _SHUFFLE]).permutation(len(batches))
    return [batches[place] for place in order]


@lru_cache(maxsize=256)  # of each of 42 shapes, two epochs at least
def _permutation(plan: BatchOrder, epoch: int, group: int) -> Int64[np.ndarray, " n"]:
    members = list(plan._groups.values())[group]
    return np.random.default_rng([plan.seed, epoch, group, _ORDER]).permutation(len(members))
