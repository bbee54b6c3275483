"""What a person is told of memory: what is held, and where it is too small what was asked, what there is, and what asks
for less."""

import os
import re
import sys
from collections.abc import Iterable
from contextvars import ContextVar
from pathlib import Path

_LONGEST_SHOWN = 200  # characters
_MEMORY, _CGROUP = Path("/proc/meminfo"), Path("/sys/fs/cgroup/memory.max")
_CHEAPER: ContextVar[tuple[str, ...]] = ContextVar("cheaper", default=())


def advise(flags: Iterable[str]) -> None:
    """From now on a lack of memory names these flags of the command, which lower it, the cheapest first."""
    _CHEAPER.set(tuple(flags))


def anonymous_bytes() -> int:
    """What this process holds of memory that stands for no file; 0 where the system does not tell."""
    status = Path("/proc/self/status")
    found = re.search(r"RssAnon:\s+(\d+) kB", status.read_text()) if status.exists() else None
    return 1024 * int(found[1]) if found else 0


def too_small(error: BaseException) -> str:
    """The line that tells of a lack of memory."""
    asked = (str(error).strip().splitlines() or ["the machine has no more"])[0]
    asked = asked.removeprefix("RESOURCE_EXHAUSTED: ").rstrip(". ")[:_LONGEST_SHOWN]
    asked = re.sub(r"(\d{6,}) bytes", lambda found: _gigabytes(int(found[1])), asked)
    if flags := _CHEAPER.get():
        remedy = f"to need less, the cheapest first: {'; '.join(flags)}"
    else:
        remedy = "end other programs, or take a machine with more"
    return f"not enough memory: {asked[0].lower()}{asked[1:]}; {', '.join([*_device(error), _host()])}; {remedy}"


def _device(error: BaseException) -> list[str]:
    """What a device has; of a lack of the machine's own memory nothing."""
    if isinstance(error, (MemoryError, OSError)) or "jax" not in sys.modules:
        return []
    device = sys.modules["jax"].local_devices()[0]
    limit = (device.memory_stats() or {}).get("bytes_limit")  # a CPU tells nothing
    return [f"a device ({device.device_kind}) has {_gigabytes(limit)}"] if limit else []


def _host() -> str:
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if _CGROUP.exists() and (limit := _CGROUP.read_text().strip()).isdigit():
        total = min(total, int(limit))
    free = re.search(r"MemAvailable: +(\d+) kB", _MEMORY.read_text()) if _MEMORY.exists() else None
    return f"this machine has {_gigabytes(total)}" + (f", {_gigabytes(1024 * int(free[1]))} free" if free else "")


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:.1f} GB"
