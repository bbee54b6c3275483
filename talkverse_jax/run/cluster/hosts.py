"""What the engine asks of a cluster. Imports no Ray."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from talkverse_jax.run.cluster.seats import Seat


@dataclass(frozen=True)
class News:
    """What came of a worker.

    Attributes:
      worker: as `Hosts.begin` gave it.
      code: its exit code, once it has ended.
      lost: why nothing more will come, where its host, or what holds it there, is gone.
    """

    worker: Any
    lines: Sequence[str] = ()
    code: int | None = None
    lost: str = ""


class Hosts(Protocol):
    """Where workers run."""

    def nodes(self) -> Sequence[Mapping[str, Any]]:
        """What is known of the cluster's nodes, as `ray.nodes()` tells it."""
        ...

    def ask_for(self, seat: Seat, count: int) -> None:
        """Tell an autoscaler, where there is one, how many such seats are wanted."""
        ...

    def begin(self, seat: Seat, arguments: Sequence[str], environ: Mapping[str, str | None]) -> Any:
        """A worker, whose `waits` tells whether its seat is still to become free.

        Args:
          arguments: what stands behind `python -m`.
          environ: variables that are set, or taken away (None); otherwise they are those of the host's Ray.
        """
        ...

    def listen(self, workers: Iterable[Any], seconds: float) -> Sequence[News]:
        """What workers have said or what became of them; waits where there is nothing yet."""
        ...

    def stop(self, workers: Iterable[Any]) -> None:
        """End workers, and let their seats go."""
        ...
