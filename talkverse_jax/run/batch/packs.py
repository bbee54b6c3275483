"""Which videos of a batch are denoised together, and in which order: a function of the whole list."""

import json
from collections.abc import Hashable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from talkverse_jax.core.errors import out_of_memory
from talkverse_jax.pipeline import registry
from talkverse_jax.run.batch.faults import Failure, of_machine
from talkverse_jax.run.batch.items import Item
from talkverse_jax.run.batch.readings import NOTHING_NOTED, Readings
from talkverse_jax.run.batch.sources import check_sources

_AT_ONCE = 32  # items between two notes of what is being read


@dataclass(frozen=True)
class BatchPlan:
    """Who is made together, in the order of the work.

    Attributes:
      packs: ids that are denoised as one batch.
      errors: of the items whose files cannot be used, by id.
      shapes: of each pack; what has one number takes about the same memory.
    """

    packs: tuple[tuple[str, ...], ...]
    errors: dict[str, Failure]
    shapes: tuple[int, ...] = field(default=())

    def joined(self, other: "BatchPlan") -> "BatchPlan":
        """With another's packs behind, and its errors."""
        behind = 1 + max(self.shapes, default=-1)
        return BatchPlan(
            self.packs + other.packs, other.errors, self.shapes + tuple(behind + shape for shape in other.shapes)
        )

    def to_json(self) -> bytes:
        errors = {name: failure.error for name, failure in self.errors.items()}
        return json.dumps({"packs": self.packs, "errors": errors, "shapes": self.shapes}).encode()

    @classmethod
    def from_json(cls, data: bytes) -> "BatchPlan":
        values = json.loads(data)
        errors = {name: Failure(error) for name, error in values["errors"].items()}
        packs = tuple(map(tuple, values["packs"]))
        return cls(packs, errors, tuple(values.get("shapes", range(len(packs)))))  # older versions noted none


def make_plan(items: Sequence[Item], size: int, readings: Readings = NOTHING_NOTED) -> BatchPlan:
    """Read the items' files, and put those of one shape together, at most `size` at a time. What is alike in shape
    comes one after the other, so that nothing is compiled twice.

    Args:
      readings: where is noted whose files are being read.

    Raises:
      MachineFault: no item is to blame.
    """
    shapes = _shapes(items, readings)
    errors = {name: shape for name, shape in shapes.items() if isinstance(shape, Failure)}
    groups: dict[Hashable, list[tuple[float, int, str]]] = {}
    for place, item in enumerate(items):
        if not isinstance(shape := shapes[item.id], Failure):
            key, seconds = shape
            groups.setdefault(key, []).append((seconds, place, item.id))
    packs, numbers = [], []
    for number, key in enumerate(sorted(groups, key=str)):
        alike = [name for *_, name in sorted(groups[key])]  # videos of a pack are of about one length
        new = [tuple(alike[first : first + size]) for first in range(0, len(alike), size)]
        packs += new
        numbers += [number] * len(new)
    return BatchPlan(tuple(packs), errors, tuple(numbers))


def _shapes(items: Sequence[Item], readings: Readings) -> dict[str, tuple[Hashable, float] | Failure]:
    """Of each item what must be the same to be denoised as one batch, and seconds; or why it cannot be made."""
    found: dict[str, tuple[Hashable, float] | Failure] = {}
    with ThreadPoolExecutor() as pool, readings:
        for part in _parts(items, readings):
            readings.begin(item.id for item in part)
            found |= zip((item.id for item in part), pool.map(_shape, part))
            for item in part if len(part) > 1 else ():
                if found[item.id] is _NO_MEMORY:  # maybe the others' fault
                    readings.begin([item.id])
                    found[item.id] = _shape(item)
        for item in items:
            found.setdefault(item.id, readings.killer(item.id))
    return found


def _parts(items: Sequence[Item], readings: Readings) -> Iterator[list[Item]]:
    """Those that are read at once; over which workers died, alone, and not for ever."""
    innocent = [item for item in items if not readings.deaths(item.id)]
    yield from (innocent[first : first + _AT_ONCE] for first in range(0, len(innocent), _AT_ONCE))
    yield from ([item] for item in items if readings.deaths(item.id) and not readings.is_killer(item.id))


_NO_MEMORY = Failure("out of memory while its files were read; give smaller ones, or the machine more memory")


def _shape(item: Item) -> tuple[Hashable, float] | Failure:
    if item.job is None:
        return Failure(item.error or "cannot be made", item.trace)
    try:
        check_sources(item.job)
        inputs = registry.find(item.job.family).read(item.job)
        return inputs.shape, inputs.seconds
    except Exception as error:
        if fault := of_machine(error):
            raise fault from None
        return _NO_MEMORY if out_of_memory(error) else Failure.of(error)
