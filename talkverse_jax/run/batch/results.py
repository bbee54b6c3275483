"""What is done and what failed: the state of a batch in its folder."""

import dataclasses
import hashlib
import json
import time
from pathlib import Path
from typing import Any

from talkverse_jax.core.errors import UserError
from talkverse_jax.core.paths import json_text
from talkverse_jax.core.reporting import Reporter
from talkverse_jax.core.text import is_text
from talkverse_jax.media import whole
from talkverse_jax.run.batch import helped
from talkverse_jax.run.batch.faults import Failure
from talkverse_jax.run.batch.items import Item
from talkverse_jax.run.batch.names import folded
from talkverse_jax.run.batch.owner import is_gone, this_process
from talkverse_jax.run.batch.sources import Sources, check_sources
from talkverse_jax.run.batch.store import Store

RESULTS = "results.jsonl"
_LOGS = "errors"
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
        self.folder = store.work = f".work-{digest[:12]}"
        self.found: dict[str, dict[str, Any]] = {}
        self._sources = Sources(items.values())
        self._stale: dict[str, bytes] = {}
        self._torn: set[str] = set()
        self._reported = float("-inf")

    def begin(self) -> None:
        """Learn what is there. What failed in a run that is over is tried again."""
        for name in self.store.names(f"{self.folder}/errors"):
            note = self._note(name)
            process = _object(note).get("process")
            if process is None or is_gone(process):
                self._stale[name] = note
        self._refuse_twins()
        self.look()
        names = set(self.store.names())
        for name in self.items:
            if name not in self.found and f"{name}.json" in names and self._record(name) is None:
                self.found[name] = _failed(name, self._foreign(name))

    def _refuse_twins(self) -> None:
        """Of ids that are one name on this disk, the first has it."""
        first: dict[str, str] = {}
        twins = {name: first[key] for name in self.items if first.setdefault(key := folded(name), name) != name}
        if twins and not self.store.knows_case():
            for name, other in twins.items():
                error = f"id {name!r}: is the name of {other!r} on this disk, which knows no case; give it another id"
                self.found[name] = _failed(name, error)

    def look(self) -> None:
        """Learn what this worker and others have finished."""
        names, errors = set(self.store.names()), set(self.store.names(f"{self.folder}/errors"))
        for name, item in self.items.items():
            if name in self.found:
                continue
            if f"{name}.mp4" in names and (result := self._there(item)) is not None:
                self.found[name] = result
            elif name in errors and (note := self._note(name)) != self._stale.get(name):
                error = {key: value for key, value in _object(note).items() if key != "process"}
                self.found[name] = _failed(name, "damaged note") | error

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

    def _record(self, name: str) -> dict[str, Any] | None:
        """The record of a video, or nothing at all where it is empty, as power cuts leave files; None: not ours."""
        data = self.store.read(f"{name}.json")
        if not (data or b"").strip(b"\0 \n"):
            return {}
        record = _object(data or b"")
        return record if "talkverse_jax" in record else None

    @staticmethod
    def _foreign(name: str) -> str:
        return f"{name}.json: stands where the record goes and is none; move it away, or give the item another id"

    def _there(self, item: Item) -> dict[str, Any] | None:
        """The result of an item whose video is there: failed where it is another video. None: it is not whole."""
        try:
            return self._done(item)
        except UserError as error:
            return _failed(item.id, str(error))
        except Exception as error:  # one item's, whatever its record or its files hold
            return _failed(item.id, f"{item.id}.mp4: is there, but {Failure.of(error).error}")

    def _done(self, item: Item) -> dict[str, Any] | None:
        name, file = item.id, f"{item.id}.mp4"
        reader = self._sources.reader(self.store.local(file))
        another = "give the item another id" if reader is None else f"item {reader!r} reads it: give another id"
        if item.job is None:
            return _failed(name, item.error or "cannot be made")
        check_sources(item.job)
        if self.store.size(file) == 0 and reader is None:
            return self._tear(name, "is empty")
        record = self._record(name)
        if not record or "made_from" not in record:
            if reader is not None:
                raise UserError(f"{file}: stands where the video goes; {another}")
            raise UserError(f"{name}.json: missing or damaged; move {file} away to have it made again, or {another}")
        remedy = another if reader else f"delete {file} to have it made again, or {another}"
        made_from = record["made_from"]
        if record.get("identity") != item.job.identity() and (other := item.job.differences(made_from)):
            raise UserError(f"{file}: was made with {self._differs(item, made_from, other)}; {remedy}")
        if wrong := self._not_whole(file, record):
            if reader is not None:
                raise UserError(f"{file}: {wrong}; {remedy}")
            return self._tear(name, wrong)
        told = {"video_seconds": record["frames"] / record["fps"], "clips": record["clips"]}
        notices = {"notices": record["notices"]} if record.get("notices") else {}
        return {"id": name, "state": "done"} | told | {"seconds": record["seconds"]["total"]} | notices

    def _not_whole(self, file: str, record: dict[str, Any]) -> str | None:
        size, length = self.store.size(file), record.get("bytes", 0)  # older versions noted none
        if (path := self.store.local(file)) is not None:
            return whole.fault(path, record["frames"], length)
        return f"has {size} bytes of {length}" if (size or 0) < length else None

    def _tear(self, name: str, fault: str) -> None:
        """A video of ours that is not whole, after a power cut or on a bad disk: it is made again."""
        if name not in self._torn:
            self._torn.add(name)
            self._reporter.say(f"{name}.mp4: {fault}; it is made again")

    @staticmethod
    def _differs(item: Item, made_from: dict[str, Any], other: list[str]) -> str:
        assert item.job is not None
        for name in other:
            if not name.endswith(("'s file", "' files")):
                return f"{name} {item.job.completed(made_from).get(name)!r}, not {item.job.made_from.get(name)!r}"
        what = other[0].partition("'")[0]
        return f"other {what}" if what == "weights" else f"another {what}"

    def place(self, name: str, file: Path, record: dict[str, Any]) -> None:
        """Make a finished file the batch's, with its record; nothing where another worker has.

        Raises:
          UserError: what stands under one of the names is not ours.
        """
        if self.store.size(f"{name}.mp4") is None or name in self._torn:
            if self._record(name) is None:
                raise UserError(self._foreign(name))
            self.store.write(f"{name}.json", json_text(record).encode())
            self.store.publish(file, f"{name}.mp4", instead=name in self._torn)
        self.look()

    def fail(self, name: str, failure: Failure) -> None:
        """Note that an item cannot be made, unless another worker has made it."""
        self.look()
        if name in self.found:
            return
        note = {"error": failure.error, "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
        if failure.trace:
            note["log"] = f"{_LOGS}/{name}.txt"
            self.store.write(note["log"], failure.trace.encode(errors="backslashreplace"))
        self.store.write(f"{self.folder}/errors/{name}", json.dumps(note | {"process": this_process()}).encode())
        self.found[name] = {"id": name, "state": "failed"} | note
        self._reporter.say(f"{name}: {failure.error}" + (f" (see {note['log']})" if failure.trace else ""))

    def check(self) -> None:
        """Write a little where results go.

        Raises:
          OSError: nothing can be written there.
        """
        self.store.write(f"{self.folder}/check", b"")

    def report(self, now: bool = True) -> None:
        """Write `results.jsonl`: a line for every item, in the list's order.

        Args:
          now: also where it was written a moment ago.
        """
        if not now and time.monotonic() - self._reported < _REPORT_EVERY:
            return
        self._reported = time.monotonic()
        lines = [self.found.get(name, {"id": name, "state": "waiting"}) for name in self.items]
        self.store.write(RESULTS, "".join(_json_line(line) for line in lines).encode())

    def tidy(self) -> None:
        """Remove the logs of items that are made by now, and the notes of their helpers."""
        helped.tidy(self.store, [name for name, result in self.found.items() if result["state"] == "done"])
        for log in self.store.names(_LOGS):
            name = log.removesuffix(".txt")
            if name in self.found and "log" not in self.found[name]:
                self.store.remove(f"{_LOGS}/{log}")


def _failed(name: str, error: str) -> dict[str, Any]:
    return {"id": name, "state": "failed", "error": error}


def _object(data: bytes) -> dict[str, Any]:
    """A JSON object; of anything else, one without any keys."""
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _json_line(values: dict[str, Any]) -> str:
    text = json.dumps(values, ensure_ascii=False)
    return (text if is_text(text) else json.dumps(values)) + "\n"


def _told(item: Item) -> list[Any]:
    """An item without what its files hold, which may be much to read."""
    if item.wish is not None:
        return [item.id, *item.wish]
    if (job := item.job) is None:
        return [item.id, item.error]
    groups = [dataclasses.asdict(group) for group in (job.weights, job.machine, job.files, job.settings)]
    return [item.id, job.family, *groups]
