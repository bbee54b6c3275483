"""The hosts of a cluster, as Ray has them: the only file that imports it."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray  # pyright: ignore[reportMissingImports]  # an extra that developers need not have
from ray.autoscaler.sdk import request_resources  # pyright: ignore[reportMissingImports]  # as above
from ray.exceptions import RayError  # pyright: ignore[reportMissingImports]  # as above
from ray.util.placement_group import (  # pyright: ignore[reportMissingImports]  # as above
    placement_group,
    remove_placement_group,
)
from ray.util.scheduling_strategies import (  # pyright: ignore[reportMissingImports]  # as above
    NodeAffinitySchedulingStrategy,
    PlacementGroupSchedulingStrategy,
)

from talkverse_jax.core.errors import UserError
from talkverse_jax.run.cluster.hosted import HostedProcess
from talkverse_jax.run.cluster.hosts import News
from talkverse_jax.run.cluster.seats import Seat

_LISTEN = 1.0  # seconds for which a process is listened to at a time
_PATIENCE = 15.0  # seconds in which workers that are stopped end


@dataclass(eq=False)
class RayWorker:
    """A worker on its seat: an actor for each of its processes.

    Attributes:
      waits: for the resources of its seat.
    """

    actors: list[Any]
    group: Any = None
    asked: dict[Any, int] = field(default_factory=dict)
    codes: dict[int, int] = field(default_factory=dict)
    waits: bool = True

    @property
    def code(self) -> int | None:
        """That of the process that ended first by itself, when all have ended."""
        if len(self.codes) < len(self.actors):
            return None
        return next((code for _, code in sorted(self.codes.items()) if code not in (0, 3)), max(self.codes.values()))


class RayHosts:
    """Places workers on hosts, as `hosts.Hosts` says.

    Args:
      address: of the cluster; None: that of RAY_ADDRESS or of this host, else one of this host alone is started.

    Raises:
      UserError: no cluster is there.
    """

    def __init__(self, address: str | None):
        try:
            ray.init(address, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, ValueError, RuntimeError) as error:
            reason = str(error).strip().partition("\n")[0]
            raise UserError(
                f"{address or 'auto'}: Ray cannot be reached there ({reason})", field="ray_address"
            ) from None
        self._asked = False

    def nodes(self) -> Sequence[Mapping[str, Any]]:
        """What Ray tells of all nodes."""
        return ray.nodes()

    def ask_for(self, seat: Seat, count: int) -> None:
        """Tell an autoscaler, where there is one, how many such seats are wanted."""
        kinds = ("CPU", "GPU", "TPU")
        one = {kind: amount for kind, amount in seat.takes if kind in kinds}
        request_resources(bundles=[one | dict(seat.head), *[one] * (len(seat.nodes) - 1)] * count)
        self._asked = True

    def begin(self, seat: Seat, arguments: Sequence[str], environ: Mapping[str, str | None]) -> RayWorker:
        """A worker, that starts as soon as its seat is free."""
        amounts = dict(seat.takes)
        more = {kind: amount for kind, amount in amounts.items() if kind not in ("CPU", "GPU")}
        usual = {"num_cpus": amounts.get("CPU", 0), "num_gpus": amounts.get("GPU", 0), "max_restarts": 0}
        actor = ray.remote(HostedProcess)
        if len(seat.nodes) == 1:
            where: Any = NodeAffinitySchedulingStrategy(seat.nodes[0], soft=False)
            worker = RayWorker([actor.options(**usual, resources=more, scheduling_strategy=where).remote()])
        else:
            first, *others = [amounts] * len(seat.nodes)
            group = placement_group([first | dict(seat.head), *others], strategy="STRICT_SPREAD")
            worker = RayWorker([], group)
            for place in range(len(seat.nodes)):
                where = PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=place)
                own = more | dict(seat.head) if place == 0 else more
                worker.actors.append(actor.options(**usual, resources=own, scheduling_strategy=where).remote())
        for place, each in enumerate(worker.actors):
            worker.asked[each.start.remote(arguments, str(Path.cwd()), environ)] = place
        return worker

    def listen(self, workers: Iterable[RayWorker], seconds: float) -> list[News]:
        """What workers have said or what became of them; waits where there is nothing yet."""
        asked = {ref: worker for worker in workers for ref in worker.asked}
        if not asked:
            return []
        ready, _ = ray.wait(list(asked), num_returns=1, timeout=seconds)
        return [self._heard(asked[ref], ref) for ref in ready]

    def _heard(self, worker: RayWorker, ref: Any) -> News:
        place = worker.asked.pop(ref)
        try:
            answer = ray.get(ref)
        except RayError as error:
            return News(worker, lost=_reason(error))
        if isinstance(answer, str):  # it was started
            worker.waits = False
            if answer:
                return News(worker, lost=answer)
            lines, code = [], None
        else:
            lines, code = answer
        if code is None:
            worker.asked[worker.actors[place].listen.remote(_LISTEN)] = place
        else:
            worker.codes[place] = code
        return News(worker, lines, worker.code)

    def stop(self, workers: Iterable[RayWorker]) -> None:
        """End workers, and let their seats go."""
        workers = list(workers)
        running = [worker for worker in workers if worker.code is None and not worker.waits]
        if ending := [actor.stop.remote() for worker in running for actor in worker.actors]:
            ray.wait(ending, num_returns=len(ending), timeout=_PATIENCE)
        for worker in workers:
            for actor in worker.actors:
                ray.kill(actor)
            if worker.group is not None:
                remove_placement_group(worker.group)

    def close(self) -> None:
        """Leave the cluster; one that was started for this is ended."""
        if self._asked:
            request_resources(bundles=[])
        ray.shutdown()


def _reason(error: BaseException) -> str:
    """What Ray says, as one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    named = [line for line in lines if line.startswith(("ModuleNotFoundError", "ImportError"))]
    return (named or lines or [type(error).__name__])[-1]
