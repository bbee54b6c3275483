"""The options of every program that may run as several processes. Imports no JAX."""

import dataclasses

from talkverse_jax.core.options import option

HEARTBEAT_TIMEOUT = 60  # seconds


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProcessOptions:
    """How this process joins the others (docs/launch.md)."""

    coordinator_address: str | None = option(
        "HOST:PORT of process 0, where several processes run together (docs/launch.md)",
        group="machine",
        metavar="ADDRESS",
        default=None,
    )
    num_processes: int | None = option("how many processes run together", group="machine", metavar="N", default=None)
    process_id: int | None = option("the number of this process, from 0", group="machine", metavar="N", default=None)
    heartbeat_timeout: int = option(
        "seconds without a sign of life after which a process counts as dead",
        group="machine",
        metavar="N",
        default=HEARTBEAT_TIMEOUT,
    )

    @property
    def processes(self) -> tuple[str | None, int | None, int | None]:
        """What `distributed.session` takes."""
        return self.coordinator_address, self.num_processes, self.process_id
