"""Who works at what: leases of independent workers, which may die at any moment.

A lease is a file `NAME.TRY`, created by the one worker that gets it and rewritten while that one lives. One
that has not changed for `timeout` seconds of the watcher's own clock (those of two machines may differ), or whose
process is gone from the watcher's own machine, is dead: its successor is the next TRY, which again one worker
creates. Nothing is ever renamed or removed, so a watcher that is late cannot take a lease from a living one.

That two workers hold a lease at once cannot be ruled out (one may be frozen and thaw); what they do must stand it.
"""

import json
import os
import socket
import threading
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from talkverse_jax.run.batch.store import Store

MOST_TRIES = 30


@dataclass
class Lease:
    """The right to work at something.

    Attributes:
      lost: another worker has taken over.
    """

    name: str
    attempt: int
    lost: bool = False


@dataclass
class _Seen:
    """The latest lease of a name, and since when it has not changed."""

    content: bytes
    since: float


@dataclass
class Leases:
    """The leases of one worker, shown alive by a thread of their own while the block lasts.

    Attributes:
      folder: of the leases, in the store.
      timeout: seconds.
      worker: its name.
    """

    store: Store
    folder: str
    timeout: float
    worker: str = field(default_factory=lambda: uuid.uuid4().hex[:12])
    _held: dict[str, Lease] = field(default_factory=dict)
    _seen: dict[str, _Seen] = field(default_factory=dict)
    _stop: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _beat: int = 0

    def __enter__(self) -> "Leases":
        self._thread = threading.Thread(target=self._show_life, name="leases", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        self._stop.set()
        self._thread.join()

    def latest(self) -> dict[str, int]:
        """The last try of every lease that was ever taken."""
        found: dict[str, int] = {}
        for file in self.store.names(self.folder):
            name, _, attempt = file.rpartition(".")
            if name and attempt.isdigit():
                found[name] = max(int(attempt), found.get(name, 0))
        return found

    def take(self, name: str, latest: int | None) -> Lease | None:
        """The lease, or None while another worker has it.

        Args:
          latest: its last try, where there was one.
        """
        if latest is not None:
            content = self.store.read(f"{self.folder}/{name}.{latest}")
            if content is None:
                return None  # all is done, and what was left of the work is being removed
            seen = self._seen.get(name)
            if seen is None or seen.content != content:
                self._seen[name] = seen = _Seen(content, time.monotonic())
            if time.monotonic() - seen.since < self.timeout and not is_gone(json.loads(content)):
                return None
        lease = Lease(name, 0 if latest is None else latest + 1)
        if not self.store.create(f"{self.folder}/{name}.{lease.attempt}", self._content()):
            return None
        with self._lock:
            self._held[name] = lease
        return lease

    def holds(self, name: str) -> bool:
        """Whether this worker has it."""
        return name in self._held

    def done(self, lease: Lease) -> None:
        """The work is done; nobody needs the lease again."""
        with self._lock:
            self._held.pop(lease.name, None)

    def _content(self) -> bytes:
        return json.dumps({"worker": self.worker, "beat": self._beat} | this_process()).encode()

    def _show_life(self) -> None:
        while not self._stop.wait(self.timeout / 5):
            self._beat += 1
            latest = self.latest()
            with self._lock:
                for lease in self._held.values():
                    if latest.get(lease.name, lease.attempt) == lease.attempt:
                        self.store.write(f"{self.folder}/{lease.name}.{lease.attempt}", self._content())
                    else:
                        lease.lost = True


def this_process() -> dict[str, Any]:
    """What tells this process from all others."""
    return {"host": socket.gethostname(), "pid": os.getpid(), "started": _started(os.getpid())}


def is_gone(process: dict[str, Any]) -> bool:
    """Whether a process (see `this_process`) is known to live no more: one of this machine that is not there."""
    return process["host"] == socket.gethostname() and _started(process["pid"]) != process["started"]


def _started(pid: int) -> str:
    """When a process was started, in ticks since the machine was; "" where none lives, or nothing tells."""
    try:
        state, *rest = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if state == "Z" else rest[18]
