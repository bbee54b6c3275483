"""Which samples make up batch number n: a function of the samples' shapes, the batch size and a seed.

So the place of a run in its data is one number, and nothing about it depends on devices, processes or workers.

Samples of one shape form a group. A group's samples are an endless stream, epoch after epoch, each in an
order of its own; the stream is cut into batches, so that none is padded and no sample is lost or repeated (a
batch may hold the end of one epoch and the start of the next). Epoch e of the plan has the batches of every
group whose last sample is of epoch e, all groups' together in random order.

Where the data change on the way, another order takes over: its streams begin with the samples that are still to be
seen in this epoch (`Rest`), and go on with whole epochs.
"""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
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
class Rest:
    """Where an order takes over from another.

    Attributes:
      batch: the number of its first batch.
      epoch: that it begins in the midst of.
      owed: the ids (epoch, sample) that are still to be seen in it: of its own epoch, and the last of those before it,
        for which a batch has not come.
    """

    batch: int
    epoch: int
    owed: Int64[np.ndarray, "n 2"]


@dataclass(frozen=True, eq=False)
class BatchOrder:
    """`plan[n]` is batch n, for any n from the first one on, in any order.

    Attributes:
      shapes: of the samples, by number.
      batch_size: over all devices and processes.
      rest: where it takes over from another order; None: it begins with batch 0.

    Raises:
      UserError: there are no samples.
    """

    shapes: Sequence[WindowShape] | Mapping[int, WindowShape]
    batch_size: int
    seed: int
    rest: Rest | None = None
    _groups: dict[WindowShape, Int64[np.ndarray, " n"]] = field(init=False, repr=False)
    _heads: list[Int64[np.ndarray, "n 2"]] = field(init=False, repr=False)

    def __post_init__(self):
        if not self.shapes:
            raise UserError("no sample is left to train on; see skipped.jsonl for what is wrong with each")
        members: dict[WindowShape, list[int]] = {}
        numbered = self.shapes.items() if isinstance(self.shapes, Mapping) else enumerate(self.shapes)
        for sample, shape in sorted(numbered):
            members.setdefault(WindowShape(*shape), []).append(sample)
        object.__setattr__(self, "_groups", {shape: np.array(members[shape]) for shape in sorted(members)})
        object.__setattr__(self, "_heads", [self._head(group) for group in range(len(members))])

    def __getitem__(self, number: int) -> Batch:
        if number < self._begin:
            raise IndexError(f"batch {number}: the first one is {self._begin}")
        epoch = self.epoch(number)
        group, cut = _order(self, epoch)[number - self.first(epoch)]
        places = range(cut * self.batch_size, (cut + 1) * self.batch_size)
        return Batch(number, list(self._groups)[group], tuple(self._at(group, place) for place in places))

    def first(self, epoch: int) -> int:
        """The number of the epoch's first batch (of the next one's, where it has none); of the order's first one, where
        the epoch was over before."""
        return self._begin + sum(self._cuts(group, epoch).start for group in range(len(self._groups)))

    def epoch(self, number: int) -> int:
        """The epoch that batch is in."""
        turns = (number - self._begin + 1 + len(self._groups)) * self.batch_size // len(self.shapes) + 2
        epochs = range(self._epoch, self._epoch + turns + 1)
        return self._epoch + bisect_right(epochs, number, key=self.first) - 1

    def unseen(self, number: int) -> list[SampleId]:
        """What the epoch of batch `number`, and those before it, still have to show when that batch comes."""
        epoch, left = self.epoch(number), []
        done = set(_order(self, epoch)[: number - self.first(epoch)])
        for group in range(len(self._groups)):
            start = self._cuts(group, epoch).start * self.batch_size
            left += [
                self._at(group, place)
                for place in range(start, self._length(group, epoch))
                if (group, place // self.batch_size) not in done
            ]
        return left

    @property
    def _begin(self) -> int:
        return self.rest.batch if self.rest else 0

    @property
    def _epoch(self) -> int:
        return self.rest.epoch if self.rest else 0

    def _head(self, group: int) -> Int64[np.ndarray, "n 2"]:
        """The group's stream of ids in the epoch that the order begins in."""
        members = list(self._groups.values())[group]
        if self.rest is None:
            order = _drawn(len(members), self.seed, 0, group, _ORDER)
            return np.stack([np.zeros_like(members), members[order]], axis=1)
        owed = self.rest.owed[np.isin(self.rest.owed[:, 1], members)]
        owed = owed[np.lexsort(owed.T)]
        owed = owed[_drawn(len(owed), self.seed, self.rest.epoch, group, _ORDER, self.rest.batch)]
        return owed[np.argsort(owed[:, 0], kind="stable")]

    def _length(self, group: int, epoch: int) -> int:
        """How long the group's stream is up to the end of the epoch."""
        if epoch < self._epoch:
            return 0
        return len(self._heads[group]) + (epoch - self._epoch) * len(list(self._groups.values())[group])

    def _cuts(self, group: int, epoch: int) -> range:
        """Which of the group's batches are of the epoch."""
        return range(*(self._length(group, turn) // self.batch_size for turn in (epoch - 1, epoch)))

    def _at(self, group: int, place: int) -> SampleId:
        """What the group's stream has at a place."""
        head = self._heads[group]
        if place < len(head):
            return SampleId(*map(int, head[place]))
        members = list(self._groups.values())[group]
        turn, at = divmod(place - len(head), len(members))
        turn += self._epoch + 1
        return SampleId(turn, int(members[_permutation(self, turn, group)[at]]))

    def __reduce__(self):
        shapes = dict(self.shapes) if isinstance(self.shapes, Mapping) else tuple(self.shapes)
        return BatchOrder, (shapes, self.batch_size, self.seed, self.rest)


def _drawn(count: int, *seeds: int) -> Int64[np.ndarray, " n"]:
    return np.random.default_rng(seeds).permutation(count)


@lru_cache(maxsize=4)
def _order(plan: BatchOrder, epoch: int) -> list[tuple[int, int]]:
    """The epoch's batches as (group, which of the group's)."""
    batches = [(group, cut) for group in range(len(plan._groups)) for cut in plan._cuts(group, epoch)]
    again = plan._begin if epoch == plan._epoch else 0  # an epoch that is begun anew has another order
    return [batches[place] for place in _drawn(len(batches), plan.seed, epoch, again, _SHUFFLE)]


@lru_cache(maxsize=256)  # of each of 42 shapes, two epochs at least
def _permutation(plan: BatchOrder, epoch: int, group: int) -> Int64[np.ndarray, " n"]:
    return _drawn(len(list(plan._groups.values())[group]), plan.seed, epoch, group, _ORDER)
