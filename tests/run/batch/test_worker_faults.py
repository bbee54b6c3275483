"""Faults of items, and of the machine, while videos are made."""

import errno
import json
import os
from pathlib import Path

import jax
import numpy as np
import pytest
import soundfile

from talkverse_jax.core.errors import UserError
from talkverse_jax.run.batch import worker as workers
from talkverse_jax.run.batch.owner import this_process
from tests.processes import ROOT
from tests.run.batch.drawn import DrawnPipeline, Said, make

EXHAUSTED = "RESOURCE_EXHAUSTED: Out of memory while trying to allocate 9 bytes."


class Batch:
    """A list of short videos, and what comes of it."""

    def __init__(self, folder: Path):
        self._folder, self.out = folder, folder / "out"
        soundfile.write(folder / "a.wav", np.zeros(4800), 16000)  # 7 frames, 2 clips
        self.said: list[str] = []

    def write(self, *ids: str) -> None:
        common = {"image": str(ROOT / "assets/face.png"), "audio": "a.wav"}
        rows = [common | {"id": name, "prompt": name} for name in ids]
        (self._folder / "list.json").write_text(json.dumps(rows))

    def run(self, pack: int = 1, out: Path | None = None, **acts) -> int:
        reporter, pipeline = Said(), DrawnPipeline(pack)
        pipeline.acts, self.said = acts, reporter.lines
        return make(pipeline, str(self._folder / "list.json"), str(out or self.out), reporter)

    def videos(self, out: Path | None = None) -> dict[str, bytes]:
        return {path.stem: path.read_bytes() for path in sorted((out or self.out).glob("*.mp4"))}

    def errors(self) -> dict[str, str]:
        lines = map(json.loads, (self.out / "results.jsonl").read_text().splitlines())
        return {line["id"]: line["error"] for line in lines if line["state"] == "failed"}

    def files(self) -> list[str]:
        return sorted(name for name in os.listdir(self.out) if not name.endswith((".mp4", ".json")))


@pytest.fixture
def batch(tmp_path):
    return Batch(tmp_path)


def raises(error: BaseException, times: int = 10**9):
    left = [times]

    def act():
        left[0] -= 1
        if left[0] >= 0:
            raise error

    return act


@pytest.mark.parametrize("where", ["clip", "record", "lease", "wrapped"])
def test_a_full_disk_stops_the_worker_and_fails_nothing(batch, tmp_path, monkeypatch, where):
    batch.write("a", "b", "c")
    assert batch.run(out=tmp_path / "calm") == 0
    full, count = OSError(errno.ENOSPC, "No space left on device"), [0]

    def second(*args, real):
        count[0] += 1
        if count[0] == 2:
            if where == "wrapped":
                try:
                    raise full
                except OSError:
                    raise UserError("b.mp4: cannot be written") from None
            raise full
        return real(*args)

    with monkeypatch.context() as patched:
        patched.setattr(workers.Leases, "give_back", lambda *_: None)  # which needs room too
        owner, name = {
            "record": (workers.Results, "place"),
            "lease": (workers.Leases, "take"),
        }.get(where, (workers, "write_clip"))
        real = getattr(owner, name)
        patched.setattr(owner, name, lambda *args, **more: second(*args, real=real))
        with pytest.raises(
            UserError, match="No space left on device; make room .*; the same command makes what is missing"
        ):
            batch.run()
    assert not list(batch.out.glob(".work-*/errors/*")) and not list(batch.out.rglob("*.partial.mp4"))
    monkeypatch.setattr("talkverse_jax.run.batch.leases.is_gone", lambda process: True)  # this one, in its first life
    assert batch.run() == 0
    assert batch.videos() == batch.videos(tmp_path / "calm") and batch.files() == ["results.jsonl"]


def test_a_lost_device_stops_the_worker(batch):
    batch.write("a", "b")
    lost = jax.errors.JaxRuntimeError("UNAVAILABLE: TPU worker is gone")
    with pytest.raises(UserError, match="a device is lost .JaxRuntimeError: UNAVAILABLE"):
        batch.run(a=raises(lost))
    assert batch.run() == 0 and batch.errors() == {}


@pytest.mark.parametrize("error", [jax.errors.JaxRuntimeError(EXHAUSTED), MemoryError()])
def test_what_alone_needs_too_much_memory_fails_when_the_others_are_made(batch, error):
    batch.write("a", "large", "b")
    assert batch.run(large=raises(error)) == 1
    assert batch.videos().keys() == {"a", "b"}
    assert batch.errors()["large"].startswith("out of memory in 3 tries (")
    assert batch.said.count("large: out of memory; tried again after the others") == 2


def test_memory_that_was_short_once_is_asked_for_again(batch):
    batch.write("a", "b")
    assert batch.run(a=raises(MemoryError(), times=1)) == 0 and batch.videos().keys() == {"a", "b"}


def test_memory_that_is_short_for_all_is_the_machines(batch):
    batch.write(*"abcde")
    short = {name: raises(MemoryError()) for name in "abcde"}
    with pytest.raises(UserError, match="out of memory .MemoryError.; end what else uses it, or give"):
        batch.run(**short)
    assert not list(batch.out.glob(".work-*/errors/*"))
    assert batch.run() == 0 and len(batch.videos()) == 5


def test_a_list_of_one_that_needs_too_much_memory_ends_in_the_end(batch):
    batch.write("a")
    with pytest.raises(UserError, match="out of memory"):
        batch.run(a=raises(MemoryError()))
    assert batch.run(a=raises(MemoryError())) == 1
    assert batch.errors()["a"].startswith("out of memory in 3 tries")


def test_one_of_a_pack_fails_alone(batch, tmp_path):
    batch.write(*"abc", "x")
    assert batch.run(4, out=tmp_path / "calm") == 0
    assert batch.run(4, x=raises(RuntimeError("avif"))) == 1
    others = batch.videos(tmp_path / "calm")
    del others["x"]
    assert batch.videos() == others and batch.errors() == {"x": "RuntimeError: avif"}
    assert "Traceback" in (batch.out / "errors/x.txt").read_text()
    assert batch.files() == ["errors", "results.jsonl"]
    assert batch.run(4) == 0 and batch.files() == ["results.jsonl"]  # mended


def test_one_of_a_pack_that_cannot_begin_fails_alone(batch, monkeypatch):
    batch.write(*"abc")
    timeline = DrawnPipeline.timeline

    def nothing(pipeline, encoded):
        if encoded.job.settings.prompt == "b":
            raise UserError("nothing would be shown")
        return timeline(pipeline, encoded)

    monkeypatch.setattr(DrawnPipeline, "timeline", nothing)
    assert batch.run(4) == 1
    assert batch.videos().keys() == {"a", "c"} and batch.errors() == {"b": "nothing would be shown"}


def test_names_of_unfinished_files_are_nobodys_ids(batch, tmp_path):
    ids = ("x", "x.partial", "x.before", "x.finishing")
    for name in ids:
        batch.write(name)
        assert batch.run(4, out=tmp_path / "calm") == 0
    batch.write(*ids)
    assert batch.run(4) == 0
    assert batch.videos() == batch.videos(tmp_path / "calm") and len(batch.videos()) == 4


@pytest.mark.parametrize("deaths, error", [(3, "3 workers died while its files were read"), (2, None)])
def test_an_item_that_killed_its_readers_fails_without_its_pack(batch, monkeypatch, deaths, error):
    batch.write("a", "b")
    gone = this_process() | {"pid": 2**22 + 1, "reading": "b"}
    enter = workers.Leases.__enter__

    def after_others(leases):
        for attempt in range(deaths):
            leases.store.create(f"{leases.folder}/a+2.{attempt}", json.dumps(gone).encode())
        return enter(leases)

    monkeypatch.setattr(workers.Leases, "__enter__", after_others)
    assert batch.run(2) == (error is not None)
    assert batch.videos().keys() == ({"a"} if error else {"a", "b"})
    assert error is None or batch.errors()["b"].startswith(error)


def test_results_do_not_go_over_the_list(batch, tmp_path):
    batch.write("a")
    batch.out.mkdir()
    os.rename(tmp_path / "list.json", batch.out / "results.jsonl")
    os.symlink(batch.out / "results.jsonl", tmp_path / "list.json")
    with pytest.raises(UserError, match="list.json: is where the results go; give the list another name"):
        batch.run()


def test_a_worker_waits_for_the_one_that_reads(batch, monkeypatch):
    batch.write("a")
    monkeypatch.setattr(workers, "_LOOK_EVERY", 0.01)
    looks, take = [], workers.Leases.take

    def late(leases, name, latest):
        looks.append(name)
        return None if len(looks) < 3 else take(leases, name, latest)

    monkeypatch.setattr(workers.Leases, "take", late)
    assert batch.run() == 0 and looks[:3] == ["plan"] * 3
    assert batch.said.count("waits for another worker, which reads the items' files") == 1


def test_older_folders_of_work_are_removed(batch):
    batch.write("a")
    older = batch.out / ".work-older"
    older.mkdir(parents=True)
    (older / "b+1.0").write_text(json.dumps(this_process() | {"pid": 2**22 + 1}))
    for path in (older, older / "b+1.0"):
        os.utime(path, (0, 0))
    assert batch.run() == 0 and batch.files() == ["results.jsonl"]
