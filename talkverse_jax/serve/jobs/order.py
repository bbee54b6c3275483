"""Whose turn it is: first in, first out for one owner; of several owners, the one served longest ago; what was put
back into the queue comes before all. And who may join those whose turn it is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Waiting:
    """A job that waits.

    Attributes:
      number: in the order of admission.
      put_back: whether it has been in work.
      shape: of jobs that can be made together it is the same; None where nobody knows.
      clips: that are missing.
      deaths: of processes over it, since one finished a clip of it.
    """

    id: str
    owner: str
    number: int
    put_back: bool = False
    shape: str | None = None
    clips: int = 1
    deaths: int = 0


def in_order(waiting: Sequence[Waiting], served: Mapping[str, int]) -> list[Waiting]:
    """The jobs in the order of their turns, as things stand.

    Args:
      served: when each owner was served last, counted; one who is missing never was.
    """
    ordered = sorted((each for each in waiting if each.put_back), key=lambda each: each.number)
    queues: dict[str, list[Waiting]] = {}
    for each in sorted(waiting, key=lambda each: each.number, reverse=True):
        if not each.put_back:
            queues.setdefault(each.owner, []).append(each)
    last = dict(served)
    turn = max(last.values(), default=0)
    for each in ordered:
        turn += 1
        last[each.owner] = turn
    while queues:
        owner = min(queues, key=lambda name: (last.get(name, 0), queues[name][-1].number))
        ordered.append(queues[owner].pop())
        turn += 1
        last[owner] = turn
        if not queues[owner]:
            del queues[owner]
    return ordered


def joining(turns: Sequence[Waiting], shape: str | None, clips: int) -> Waiting | None:
    """The first job, in the order of turns, that may join a pack.

    One over which a process died is tried alone: the others shall not pay for it. One that would overtake others, which
    are of another shape or tried alone, has no more clips than the pack needs anyway, so that they wait no longer.

    Args:
      shape: of the pack.
      clips: that the longest in it still lacks.
    """
    overtaken = False
    for each in turns:
        if shape is not None and each.shape == shape and not each.deaths and not (overtaken and each.clips > clips):
            return each
        overtaken = True
    return None
