"""Leases of workers that die, freeze or leave, on a disk and in a bucket."""

import errno
import json
import os
import stat
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import fsspec
import pytest

from talkverse_jax.core.errors import UserError
from talkverse_jax.run.batch.leases import Leases, Tries
from talkverse_jax.run.batch.store import open_store
from talkverse_jax.run.batch.together import ProcessesPart


@pytest.fixture(params=["disk", "bucket"])
def store(request, tmp_path):
    if request.param == "disk":
        return open_store(str(tmp_path / "batch"))
    fsspec.filesystem("memory").store.clear()
    return open_store("memory://batch/one")


def test_a_store(store, tmp_path):
    assert store.create("a", b"1") and not store.create("a", b"2") and store.read("a") == b"1"
    store.write("a", b"3")
    store.write("work/b", b"4")
    assert store.read("a") == b"3" and store.read("none") is None
    assert store.names("work") == ["b"] and store.names("none") == [] and "a" in store.names()
    file = store.scratch("me") / "x.mp4"
    for data, instead, placed in ((b"video", False, True), (b"other", False, False), (b"third", True, True)):
        file.write_bytes(data)
        assert store.publish(file, "x.mp4", instead) == placed and not file.exists()
        assert store.read("x.mp4") == (data if placed else b"video")
    assert store.size("x.mp4") == 5 and store.size("none") is None and store.knows_case()
    store.write("logs/a", b"")
    for name in ("logs/a", "logs/a", "work", "work"):
        store.remove(name)
    assert store.names("work") == store.names("logs") == []


def test_what_is_written_to_a_disk_is_synced_before_it_has_its_name(tmp_path, monkeypatch):
    store, done = open_store(str(tmp_path)), []

    def noting(call, real):
        def noted(*args):
            done.append("folder" if call == "fsync" and stat.S_ISDIR(os.fstat(args[0]).st_mode) else call)
            return real(*args)

        return noted

    for call in ("fsync", "replace", "link"):
        monkeypatch.setattr(os, call, noting(call, getattr(os, call)))
    file = store.scratch("me") / "x.mp4"
    file.write_bytes(b"video")
    for act in (
        lambda: store.write("a", b"1"),
        lambda: store.create("b", b"1"),
        lambda: store.publish(file, "x.mp4"),
    ):
        act()
        assert done in (["fsync", "replace", "folder"], ["fsync", "link", "folder"])
        done.clear()
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["a", "b", "x.mp4"]


def test_the_others_may_remove_the_folder_that_is_written_to(tmp_path, monkeypatch):
    """The last worker does, while another writes."""
    store, replace, removed = open_store(str(tmp_path)), os.replace, []

    def late(source, target):
        if not removed:
            removed.append(store.remove(store.work))
        replace(source, target)

    monkeypatch.setattr(os, "replace", late)
    store.write("results", b"1")
    assert removed and store.read("results") == b"1"


def test_of_many_one_gets_it(store):
    workers = [Leases(store, "work", 60.0) for _ in range(16)]
    for name in ("a", "b.1"):
        with ThreadPoolExecutor(16) as pool:
            taken = list(pool.map(lambda worker: worker.take(name, None), workers))  # noqa: B023
        assert sum(lease is not None for lease in taken) == 1
    assert workers[0].latest() == {"a": 0, "b.1": 0}


def test_a_living_worker_keeps_it_and_a_silent_one_loses_it(store):
    timeout = 0.5
    with Leases(store, "work", timeout) as living:
        lease = living.take("a", None)
        other = Leases(store, "work", timeout)
        end = time.monotonic() + 4 * timeout
        while time.monotonic() < end:
            assert other.take("a", other.latest()["a"]) is None
            time.sleep(0.1)
        assert not lease.lost
        with frozen(living):
            assert other.take("a", 0) is None  # its process is there, and it was seen a moment ago
            time.sleep(1.5 * timeout)
            taken = other.take("a", 0)
            assert taken.attempt == 1 and taken.before.deaths == 1
        assert not living.keeps(lease)  # it thaws and sees that it was given up
        time.sleep(timeout)
        assert lease.lost
    assert other.take("a", 1) is None  # what is lost is not given back


@contextmanager
def frozen(leases: Leases):
    """As a process that was sent SIGSTOP."""
    leases._stop.set()
    leases._thread.join()
    yield
    leases._stop.clear()
    leases._thread = threading.Thread(target=leases._show_life, daemon=True)
    leases._thread.start()


def test_what_ends_in_order_is_given_back_at_once_and_counts_for_nothing(store):
    with Leases(store, "work", 3600.0) as first:
        assert first.take("a", None)
    with Leases(store, "work", 3600.0) as second:
        lease = second.take("a", 0)
        assert lease.attempt == 1 and lease.before == Tries()
        second.give_back(lease, "memory")
    assert Leases(store, "work", 3600.0).take("a", 1).before == Tries(memory=1)


def test_an_end_of_all_processes_counts_as_a_death(store):
    with pytest.raises(ProcessesPart), Leases(store, "work", 3600.0) as leases:
        leases.take("a", None)
        raise ProcessesPart
    assert "ended" not in json.loads(store.read("work/a.0"))


def test_a_lease_tells_whose_files_were_being_read(store):
    gone = {"host": "elsewhere", "pid": 1, "started": "1"}
    for attempt, reading in enumerate(["x", "", "x", "y"]):
        store.create(f"work/a.{attempt}", json.dumps(gone | {"reading": reading}).encode())
    store.create("work/a.4", b"\0\0")  # damaged, by a power cut
    store.create("work/a.5", json.dumps(gone).encode())  # an older version's
    leases = Leases(store, "work", 0.0)
    lease = leases.take("a", 5)
    assert lease.before == Tries(deaths=6, reading=Counter(x=2, y=1))
    leases.read(lease, "z")
    assert json.loads(store.read("work/a.6"))["reading"] == "z"


def test_a_worker_that_cannot_show_its_life_says_so_tries_again_and_gives_up(store, monkeypatch):
    said, write, full = [], store.write, [True]

    def fails(name, data):
        if full[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(name, data)

    with Leases(store, "work", 0.5, say=said.append) as leases:
        lease = leases.take("a", None)
        monkeypatch.setattr(store, "write", fails)
        time.sleep(0.35)
        full[0] = False
        time.sleep(0.3)
        assert not lease.lost and leases._thread.is_alive()
        assert said == [
            "cannot show the other workers that this one lives ([Errno 28] No space left on device); tries again"
        ]
        full[0] = True
        time.sleep(0.9)
        assert lease.lost and len(said) == 2


def test_a_sleeper_does_not_bring_back_what_was_removed(store):
    """A worker that wakes when the list is done."""
    with Leases(store, "work", 0.5) as leases:
        lease = leases.take("a", None)
        store.remove("work")
        time.sleep(0.3)
        assert lease.lost and store.names("work") == []


def test_a_dead_process_of_this_machine_is_not_waited_for(tmp_path):
    program = """
import os, sys
from talkverse_jax.run.batch.store import open_store
from talkverse_jax.run.batch.leases import Leases, Tries
assert Leases(open_store(sys.argv[1]), "work", 3600.0).take("a", None)
os._exit(9)
"""
    subprocess.run([sys.executable, "-c", program, str(tmp_path)])
    store = open_store(str(tmp_path))
    leases = Leases(store, "work", 3600.0)
    holder = json.loads(store.read("work/a.0"))
    assert leases.take("a", 0).attempt == 1
    # the same number, given to another process since
    store.create("work/b.0", json.dumps(holder | {"pid": os.getpid()}).encode())
    assert leases.take("b", 0).attempt == 1
    store.create("work/c.0", json.dumps(holder | {"host": "elsewhere"}).encode())
    assert leases.take("c", 0) is None


def test_an_address_that_cannot_be_opened(tmp_path):
    with pytest.raises(UserError, match="--output_dir nosuch://x: cannot be opened"):
        open_store("nosuch://x")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is a file"):
        open_store(str(tmp_path / "file"))
