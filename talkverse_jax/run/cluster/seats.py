"""Where workers of a batch can sit: a function of what a cluster of Ray tells of its nodes. Imports no Ray."""

import dataclasses
import math
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

_ACCELERATORS = ("TPU", "GPU")  # as Ray counts them; a host that has both is one of TPUs
# Labels that Ray gives hosts with TPUs.
_SLICE, _NUMBER, _TOPOLOGY = "ray.io/tpu-slice-name", "ray.io/tpu-worker-id", "ray.io/tpu-topology"


@dataclasses.dataclass(frozen=True)
class Seat:
    """Room for one worker.

    Attributes:
      name: for people: the host's, or the slice's, and behind a # which of several there.
      nodes: the ids of the hosts it runs on, one process each; of a slice in the slice's order.
      takes: what each of its processes takes of its host, by Ray's names.
      head: what the first process takes besides, so that nobody else gets the slice.
      place: which one of its host's seats it is, from 0.
    """

    name: str = dataclasses.field(compare=False)
    nodes: tuple[str, ...]
    takes: tuple[tuple[str, float], ...]
    head: tuple[tuple[str, float], ...] = ()
    place: int = 0


@dataclasses.dataclass(frozen=True)
class _Host:
    id: str
    name: str
    resources: Mapping[str, float]
    labels: Mapping[str, str]

    def count(self, kind: str) -> int:
        return int(self.resources.get(kind, 0))

    @property
    def kind(self) -> str:
        return next((kind for kind in _ACCELERATORS if self.count(kind)), "CPU")

    @property
    def slice(self) -> str:
        """The slice of several hosts that it belongs to; "" where it is none's."""
        chips = _chips(self.labels.get(_TOPOLOGY, ""))
        return self.labels.get(_SLICE, "") if self.kind == "TPU" and chips > self.count("TPU") else ""


def find_seats(nodes: Sequence[Mapping[str, Any]], workers: int = 1) -> list[Seat]:
    """The seats of a cluster; the same ones in the same order for the same nodes.

    A host with GPUs or TPUs is a seat. So is a slice of TPUs of several hosts, when all of them are there. Where no
    host has either, each that may compute is one (a head of a cluster often offers no CPUs).

    Args:
      nodes: as `ray.nodes()` has them.
      workers: how many seats a host has: its GPUs, or its CPUs, are shared out, at least one to each. TPUs are not.
    """
    alive = [_host(node) for node in nodes if node.get("Alive")]
    alive = sorted((host for host in alive if host.count(host.kind)), key=lambda host: (host.name, host.id))
    if any(host.kind != "CPU" for host in alive):
        alive = [host for host in alive if host.kind != "CPU"]
    groups: dict[str, list[_Host]] = {}
    for host in alive:
        groups.setdefault(host.slice or host.id, []).append(host)
    groups = {name: group for name, group in groups.items() if not group[0].slice or _is_whole(group)}
    names = Counter(group[0].name for group in groups.values() if not group[0].slice)
    seats = []
    for group in groups.values():
        if group[0].slice:
            seats.append(_of_slice(group))
            continue
        (host,) = group
        name = f"{host.name}-{host.id[:6]}" if names[host.name] > 1 else host.name
        count = 1 if host.kind == "TPU" else min(workers, host.count(host.kind))
        for place in range(count):
            shown = f"{name}#{place + 1}" if count > 1 else name
            takes = ((host.kind, float(host.count(host.kind) // count)),)
            seats.append(Seat(shown, (host.id,), takes, place=place))
    return seats


def choose(seats: Sequence[Seat], taken: Collection[Seat], hosts: int | None) -> list[Seat]:
    """The seats of as many hosts as are wanted, those first that are taken already.

    Args:
      hosts: how many at most; a slice counts as one. None: all.
    """
    first = sorted(seats, key=lambda seat: seat not in taken)
    used = list(dict.fromkeys(seat.nodes for seat in first))[:hosts]
    return [seat for seat in first if seat.nodes in used]


def _host(node: Mapping[str, Any]) -> _Host:
    name = node.get("NodeManagerHostname") or node.get("NodeManagerAddress") or node["NodeID"][:8]
    return _Host(node["NodeID"], name, node.get("Resources") or {}, node.get("Labels") or {})


def _chips(topology: str) -> int:
    """Of a whole slice, such as 4x4; 0 where nothing is said."""
    return math.prod(map(int, topology.split("x"))) if re.fullmatch(r"\d+(x\d+)*", topology) else 0


def _is_whole(group: list[_Host]) -> bool:
    """Whether all hosts of a slice are there, the first among them."""
    chips = sum(host.count("TPU") for host in group)
    return chips == _chips(group[0].labels[_TOPOLOGY]) and any(map(_heads, group))


def _heads(host: _Host) -> list[str]:
    """The resource by which Ray hands out a slice: its first host has it."""
    return [kind for kind in host.resources if re.fullmatch(r"TPU-.+-head", kind)]


def _of_slice(group: list[_Host]) -> Seat:
    group = sorted(group, key=lambda host: (not _heads(host), int(host.labels.get(_NUMBER) or 0)))
    # each of its hosts offers 1 of what is named as the slice
    takes = (("TPU", float(group[0].count("TPU"))), (group[0].slice, 1.0))
    return Seat(group[0].slice, tuple(host.id for host in group), takes, ((_heads(group[0])[0], 1.0),))
