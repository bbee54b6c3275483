"""What is done and what failed: the state of a batch in its folder."""

import dataclasses
import hashlib
import json
import time
from typing import Any

from talkverse_jax.core.reporting import Reporter
from talkverse_jax.run.batch.items import Item
from talkverse_jax.run.batch.leases import is_gone, this_process
from talkverse_jax.run.batch.store import Store

RESULTS = "results.jsonl"
_REPORT_EVERY = 20.0  # seconds


class Results:
    """What this worker knows of the items.

    Attributes:
      folder: for what is there while work goes on; another for each list.
      found: results of the items that are done or failed, by id.
    """

    def __init__(self, store: Store, items: dict[str, Item], pack: int, reporter: Reporter):
        self.store, self.items, self._reporter = store, items, reporter
        digest = hashlib.sha256(json.dumps([pack, [_told(item) for item in items.values()]]).encode()).hexdigest()
        self.folder = f".work-{digest[:12]}"
        self.found: dict[str, dict[str, Any]] = {}
        self._stale: dict[str, bytes] = {}
        self._reported = float("-inf")

    def begin(self) -> None:
        """Learn what is there. What failed in a run that is over is tried again."""
        for name in self.store.names(f"{self.folder}/errors"):
            process = json.loads(note := self._note(name)).get("process")
            if process is None or is_gone(process):
                self._stale[name] = note
        self.look()

    def look(self) -> None:
        """Learn what this worker and others have finished."""
        names, errors = set(self.store.names()), set(self.store.names(f"{self.folder}/errors"))
        for name, item in self.items.items():
            if name in self.found:
                continue
            if f"{name}.mp4" in names:
                self.found[name] = self._done(item)
            elif name in errors and (note := self._note(name)) != self._stale.get(name):
                error = {key: value for key, value in json.loads(note).items() if key != "process"}
                self.found[name] = {"id": name, "state": "failed"} | error

    @property
    def complete(self) -> bool:
        """Whether every item is done or failed."""
        return len(self.found) == len(self.items)

    @property
    def failed(self) -> int:
        """How many items failed."""
        return sum(result["state"] == "failed" for result in self.found.values())

    def _note(self, name: str) -> bytes:
        """What the worker left that could not make an item."""
        return self.store.read(f"{self.folder}/errors/{name}") or b"{}"

    def _done(self, item: Item) -> dict[str, Any]:
        """The result of an item whose video is there: failed where it is another video."""
        failed = {"id": item.id, "state": "failed"}
        remedy = f"delete {item.id}.mp4 to have it made again, or give the item another id"
        if item.job is None:
            return failed | {"error": item.error}
        try:
            record = json.loads(self.store.read(f"{item.id}.json") or b"")
            made_from = record["made_from"]
        except (ValueError, KeyError, TypeError):
            return failed | {"error": f"{item.id}.json: missing or damaged; {remedy}"}
        if record.get("identity") != item.job.identity() and (other := item.job.differences(made_from)):
            return failed | {"error": f"{item.id}.mp4: was made with {self._differs(item, made_from, other)}; {remedy}"}
        seconds = record["seconds"]["total"]
        told = {"video_seconds": record["frames"] / record["fps"], "clips": record["clips"], "seconds": seconds}
        notices = {"notices": record["notices"]} if record.get("notices") else {}
        return {"id": item.id, "state": "done"} | told | notices

    @staticmethod
    def _differs(item: Item, made_from: dict[str, Any], other: list[str]) -> str:
        assert item.job is not None
        for name in other:
            if not name.endswith(("'s file", "' files")):
                return f"{name} {item.job.completed(made_from).get(name)!r}, not {item.job.made_from.get(name)!r}"
        what = other[0].partition("'")[0]
        return f"other {what}" if what == "weights" else f"another {what}"

    def fail(self, name: str, error: str) -> None:
        """Note that an item cannot be made."""
        note = {"error": error, "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
        self.store.write(f"{self.folder}/errors/{name}", json.dumps(note | {"process": this_process()}).encode())
        self.found[name] = {"id": name, "state": "failed"} | note
        self._reporter.say(f"{name}: {error}")

    def report(self, now: bool = True) -> None:
        """Write `results.jsonl`: a line for every item, in the list's order.

        Args:
          now: also where it was written a moment ago.
        """
        if not now and time.monotonic() - self._reported < _REPORT_EVERY:
            return
        self._reported = time.monotonic()
        lines = [self.found.get(name, {"id": name, "state": "waiting"}) for name in self.items]
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        self.store.write(RESULTS, text.encode())


def _told(item: Item) -> list[Any]:
    """An item without what its files hold, which may be much to read."""
    if (job := item.job) is None:
        return [item.id, item.error]
    groups = [dataclasses.asdict(group) for group in (job.weights, job.machine, job.files, job.settings)]
    return [item.id, job.family, *groups]
