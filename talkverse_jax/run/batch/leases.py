"""Who works at what: leases of independent workers, which may die at any moment.

A lease is a file `NAME.TRY`, created by the one worker that gets it and rewritten while that one lives. One
that has not changed for `timeout` seconds of the watcher's own clock (those of two machines may differ), or whose
process is gone from the watcher's own machine, is dead: its successor is the next TRY, which again one worker
creates. So is one that its worker has given back. Nothing is ever renamed or removed, so a watcher that is late cannot
take a lease from a living one, and the tries tell what became of those before.

That two workers hold a lease at once cannot be ruled out (one may be frozen and thaw); what they do must stand it.
"""

import json
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from talkverse_jax.run.batch.owner import is_gone, this_process
from talkverse_jax.run.batch.store import Store

Ending = Literal["stopped", "memory"]  # its worker ended in order; or gave the work up for want of memory


@dataclass
class Lease:
    """The right to work at something.

    Attributes:
      lost: another worker has taken over, or nobody was told that this one lives.
      reading: the item whose files are being read, "" while none is.
      before: what became of the earlier tries.
    """

    name: str
    attempt: int
    lost: bool = False
    reading: str = ""
    before: "Tries" = field(default_factory=lambda: Tries())


@dataclass
class Tries:
    """What became of the tries of a lease.

    Attributes:
      deaths: that ended with their worker.
      reading: how many of these, by the item whose files were being read.
      memory: that were given up for want of memory.
    """

    deaths: int = 0
    reading: Counter[str] = field(default_factory=Counter)
    memory: int = 0


@dataclass
class _Seen:
    """The latest lease of a name, and since when it has not changed."""

    content: bytes
    since: float


@dataclass
class Leases:
    """The leases of one worker, shown alive by a thread of their own while the block lasts; given back at its end.

    Attributes:
      folder: of the leases, in the store.
      timeout: seconds.
      worker: its name.
      say: is told when nobody can be shown that this worker lives.
    """

    store: Store
    folder: str
    timeout: float
    worker: str = field(default_factory=lambda: uuid.uuid4().hex[:12])
    say: Callable[[str], Any] = lambda text: None
    _held: dict[str, Lease] = field(default_factory=dict)
    _seen: dict[str, _Seen] = field(default_factory=dict)
    _stop: threading.Event = field(default_factory=threading.Event)
    _lock: threading.RLock = field(default_factory=threading.RLock)
    _beat: int = 0
    _shown: float = field(default_factory=time.monotonic)

    def __enter__(self) -> "Leases":
        self._shown = time.monotonic()
        self._thread = threading.Thread(target=self._show_life, name="leases", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        if kind and not issubclass(kind, Exception | KeyboardInterrupt | SystemExit | GeneratorExit):
            return  # as if the worker had died
        for lease in list(self._held.values()):
            try:
                self.give_back(lease, "stopped")
            except OSError:  # why the work ends is being told; the lease ends with the process
                return

    def latest(self) -> dict[str, int]:
        """The last try of every lease that was ever taken."""
        found: dict[str, int] = {}
        for file in self.store.names(self.folder):
            name, _, attempt = file.rpartition(".")
            if name and attempt.isdecimal():
                found[name] = max(int(attempt), found.get(name, 0))
        return found

    def take(self, name: str, latest: int | None) -> Lease | None:
        """The lease, or None while another worker has it.

        Args:
          latest: its last try, where there was one.
        """
        tries = Tries()
        if latest is not None:
            content = self.store.read(f"{self.folder}/{name}.{latest}")
            if content is None:
                return None  # all is done, and what was left of the work is being removed
            seen = self._seen.get(name)
            if seen is None or seen.content != content:
                self._seen[name] = seen = _Seen(content, time.monotonic())
            holder = _parsed(content)
            over = "ended" in holder or is_gone(holder)
            if not over and time.monotonic() - seen.since < self.timeout:
                return None
            tries = self._tries(name, latest)
        lease = Lease(name, 0 if latest is None else latest + 1, before=tries)
        if not self.store.create(f"{self.folder}/{name}.{lease.attempt}", self._content(lease)):
            return None
        with self._lock:
            self._held[name] = lease
        return lease

    def _tries(self, name: str, latest: int) -> Tries:
        tries = Tries()
        for attempt in range(latest + 1):
            content = _parsed(self.store.read(f"{self.folder}/{name}.{attempt}") or b"")
            if content.get("ended") == "memory":
                tries.memory += 1
            elif "ended" not in content:
                tries.deaths += 1
                tries.reading[content.get("reading", "")] += 1
        del tries.reading[""]
        return tries

    def holds(self, name: str) -> bool:
        """Whether this worker has it."""
        return name in self._held

    def keeps(self, lease: Lease) -> bool:
        """Whether it is still this worker's, also after a sleep in which nobody was shown that it lives."""
        if not lease.lost and time.monotonic() - self._shown > self.timeout:
            self._show()
        return not lease.lost

    def read(self, lease: Lease, item: str) -> None:
        """Note that the files of an item are being read, for those who come after this worker has died of them."""
        with self._lock:
            lease.reading = item
            self._write(lease)

    def done(self, lease: Lease) -> None:
        """The work is done; nobody needs the lease again."""
        with self._lock:
            self._held.pop(lease.name, None)

    def give_back(self, lease: Lease, ending: Ending) -> None:
        """Let others have it at once."""
        with self._lock:
            if self._held.pop(lease.name, None) is lease and not lease.lost:
                self._write(lease, ended=ending)

    def _content(self, lease: Lease, **more: Any) -> bytes:
        shown = {"worker": self.worker, "beat": self._beat, "timeout": self.timeout, "reading": lease.reading}
        return json.dumps(shown | this_process() | more).encode()

    def _write(self, lease: Lease, **more: Any) -> None:
        self.store.write(f"{self.folder}/{lease.name}.{lease.attempt}", self._content(lease, **more))

    def _show_life(self) -> None:
        told = False
        while not self._stop.wait(self.timeout / 5):
            try:
                self._show()
                told = False
            except Exception as error:
                if not told:  # a full disk, a folder that is away for a moment: it may come back
                    self.say(f"cannot show the other workers that this one lives ({error}); tries again")
                    told = True
                if time.monotonic() - self._shown > self.timeout:
                    with self._lock:
                        for lease in self._held.values():
                            lease.lost = True

    def _show(self) -> None:
        with self._lock:
            self._beat += 1
            latest = self.latest() if self._held else {}
            for lease in self._held.values():
                if latest.get(lease.name) == lease.attempt:  # otherwise taken over, or the list is done
                    self._write(lease)
                else:
                    lease.lost = True
            self._shown = time.monotonic()


def _parsed(content: bytes) -> dict[str, Any]:
    """What a lease says; of one that is damaged, nothing."""
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
