"""Whose a file of a batch is: a process's name on its machine, and whether that process is known to be gone."""

import os
import socket
from pathlib import Path
from typing import Any

_BOOT = Path("/proc/sys/kernel/random/boot_id")
_SPACE = Path("/proc/self/ns/pid")


def this_process() -> dict[str, Any]:
    """What tells this process from all others. Containers may share a host's name and count processes each from 1:
    the kernel they run on (`boot`) and their numbering (`space`) tell them apart; "" where the system has no such.
    """
    pid = os.getpid()
    return {"host": socket.gethostname(), **_machine(), "pid": pid, "started": _started(pid)}


def is_gone(process: Any) -> bool:
    """Whether a process (see `this_process`) is known to live no more: one that this one could see, and does not.

    Older versions noted no `boot` and no `space`; there the host's name has to do. What is no note is nobody's.
    """
    try:
        here = all(process.get(part, mine) == mine for part, mine in _machine().items())
        here = here and process["host"] == socket.gethostname()
        return here and _started(int(process["pid"])) != process["started"]
    except (KeyError, TypeError, ValueError, AttributeError):
        return False


def _machine() -> dict[str, str]:
    try:
        boot = _BOOT.read_text().strip()
    except OSError:
        boot = ""
    try:
        space = os.readlink(_SPACE)
    except OSError:
        space = ""
    return {"boot": boot, "space": space}


def _started(pid: int) -> str:
    """When a process was started, in ticks since the machine was; "" where none lives, or nothing tells."""
    try:
        state, *rest = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if state == "Z" else rest[18]
