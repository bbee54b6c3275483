"""Leases of workers that die, freeze or leave, on a disk and in a bucket."""

import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import fsspec
import pytest

from talkverse_jax.core.errors import UserError
from talkverse_jax.run.batch.leases import Leases
from talkverse_jax.run.batch.store import open_store


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
    file.write_bytes(b"video")
    store.publish(file, "x.mp4")
    assert store.read("x.mp4") == b"video" and not file.exists()
    store.remove("work")
    store.remove("work")
    assert store.names("work") == []


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
    assert other.take("a", 0) is None  # its process is there, and it was seen a moment ago
    time.sleep(1.5 * timeout)
    taken = other.take("a", 0)
    assert taken.attempt == 1
    with living_again(living):
        time.sleep(timeout)
        assert lease.lost  # it thaws and sees that it was given up


def living_again(leases: Leases) -> Leases:
    leases._stop.clear()
    return leases


def test_a_dead_process_of_this_machine_is_not_waited_for(tmp_path):
    program = """
import os, sys
from talkverse_jax.run.batch.store import open_store
from talkverse_jax.run.batch.leases import Leases
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
