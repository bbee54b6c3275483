"""The options of every program that may run as several processes. Imports no JAX."""

import dataclasses
from typing import Any

from talkverse_jax.core.options import check_bounds, option

# seconds
HEARTBEAT_TIMEOUT = 60
MEETING_TIMEOUT = 300
COMPILE_TIMEOUT = 3600


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
        least=2,
    )
    meeting_timeout: int = option(
        "seconds in which all processes must have come", group="machine", metavar="N", default=MEETING_TIMEOUT, least=1
    )
    compile_timeout: int = option(
        "seconds for which CPU processes wait until all have compiled a program that they share",
        group="machine",
        metavar="N",
        default=COMPILE_TIMEOUT,
        least=1,
    )

    def __post_init__(self):
        check_bounds(self)

    @property
    def place(self) -> tuple[str | None, int | None, int | None]:
        """Which one of how many this process is, and where they meet; all None where nothing is said."""
        return self.coordinator_address, self.num_processes, self.process_id

    @property
    def session(self) -> dict[str, Any]:
        """What `distributed.session` takes, by name."""
        return dataclasses.asdict(self)
