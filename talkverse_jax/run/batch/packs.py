"""Which videos of a batch are denoised together, and in which order: a function of the whole list."""

import dataclasses
import json
from collections.abc import Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor

from talkverse_jax.core.errors import UserError
from talkverse_jax.pipeline import registry
from talkverse_jax.run.batch.items import Item


@dataclasses.dataclass(frozen=True)
class BatchPlan:
    """Who is made together, in the order of the work.

    Attributes:
      packs: ids that are denoised as one batch.
      errors: of the items whose files cannot be used, by id.
    """

    packs: tuple[tuple[str, ...], ...]
    errors: dict[str, str]

    def to_json(self) -> bytes:
        return json.dumps(dataclasses.asdict(self)).encode()

    @classmethod
    def from_json(cls, data: bytes) -> "BatchPlan":
        values = json.loads(data)
        return cls(tuple(map(tuple, values["packs"])), values["errors"])


def make_plan(items: Sequence[Item], size: int) -> BatchPlan:
    """Read the items' files, and put those of one shape together, at most `size` at a time. What is alike in shape
    comes one after the other, so that nothing is compiled twice.
    """
    with ThreadPoolExecutor() as pool:
        shapes = dict(zip((item.id for item in items), pool.map(_shape, items)))
    errors = {name: shape for name, shape in shapes.items() if isinstance(shape, str)}
    groups: dict[Hashable, list[tuple[float, int, str]]] = {}
    for place, item in enumerate(items):
        if not isinstance(shape := shapes[item.id], str):
            key, seconds = shape
            groups.setdefault(key, []).append((seconds, place, item.id))
    packs = []
    for key in sorted(groups, key=str):
        alike = [name for *_, name in sorted(groups[key])]  # videos of a pack are of about one length
        packs += [tuple(alike[first : first + size]) for first in range(0, len(alike), size)]
    return BatchPlan(tuple(packs), errors)


def _shape(item: Item) -> tuple[Hashable, float] | str:
    """What must be the same to be denoised as one batch, and seconds; or why the item cannot be made."""
    if item.job is None:
        return item.error or "cannot be made"
    try:
        inputs = registry.find(item.job.family).read(item.job)
    except UserError as error:
        return str(error)
    return inputs.shape, inputs.seconds
