"""The flags of every program that may run as several processes."""

import dataclasses

from talkverse_jax.core.options import option
from talkverse_jax.sharding.distributed import HEARTBEAT_TIMEOUT


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProcessOptions:
    """How this process joins the others (see docs/launch.md)."""

    coordinator_address: str | None = option(
        "HOST:PORT of process 0, where several run together (see docs/launch.md)",
        group="machine",
        metavar="ADDRESS",
        default=None,
    )
    num_processes: int | None = option("processes that run together", group="machine", metavar="N", default=None)
    process_id: int | None = option("which of them this one is, from 0", group="machine", metavar="N", default=None)
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
