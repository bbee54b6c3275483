"""Items that are read before anything is made: whatever one of them holds, the others are planned."""

import os
import signal
import subprocess
import sys

import pytest

from talkverse_jax.families.talkverse.settings import Files, Settings
from talkverse_jax.pipeline.job import Job
from talkverse_jax.pipeline.machine import Machine, Weights
from talkverse_jax.run.batch import packs
from talkverse_jax.run.batch.faults import Failure, MachineFault
from talkverse_jax.run.batch.items import Item
from talkverse_jax.run.batch.packs import BatchPlan, make_plan
from tests.processes import ROOT


def item(name: str, image: str = str(ROOT / "assets/face.png")) -> Item:
    files, settings = Files(image=image, audio="a.wav"), Settings(prompt=name)
    return Item(name, Job("talkverse", Weights(weights=""), Machine(), files, settings, "", 0))


class Family:
    """Reads nothing; `acts` are what happens instead, by prompt."""

    def __init__(self, **acts):
        self.acts = acts

    def find(self, name):
        return self

    def read(self, job):
        if act := self.acts.get(job.settings.prompt):
            act()
        return self

    shape, seconds = "one", 1.0


def raises(error: BaseException):
    def act():
        raise error

    return act


def test_what_is_no_file_is_not_opened(tmp_path, monkeypatch):
    monkeypatch.setattr(packs, "registry", Family())
    os.mkfifo(tmp_path / "pipe")
    odd = ["https://a/b.png", "x://b.png", str(tmp_path / "pipe"), "/dev/zero"]
    plan = make_plan([item("good"), *(item(str(n), path) for n, path in enumerate(odd))], 1)
    assert plan.packs == (("good",),)
    errors = [plan.errors[str(n)].error for n in range(4)]
    assert errors[0] == "https://a/b.png: an address; a batch reads files on a disk, so fetch it first"
    assert errors[1].startswith("x://b.png: an address")
    assert errors[2:] == [f"{path}: a pipe or a device; give a file" for path in odd[2:]]


@pytest.mark.parametrize("error", [RuntimeError("avif"), KeyError("x://"), IndexError(), RecursionError()])
def test_what_nobody_foresaw_is_one_items(monkeypatch, error):
    monkeypatch.setattr(packs, "registry", Family(bad=raises(error)))
    plan = make_plan([item("a"), item("bad"), item("b")], 4)
    assert plan.packs == (("a", "b"),) and list(plan.errors) == ["bad"]
    failure = plan.errors["bad"]
    assert failure.error.startswith(type(error).__name__) and "in act" in failure.trace
    assert BatchPlan.from_json(plan.to_json()).errors == {"bad": Failure(failure.error)}


def test_a_fault_of_the_machine_fails_no_item(monkeypatch):
    monkeypatch.setattr(packs, "registry", Family(bad=raises(OSError(24, "Too many open files"))))
    with pytest.raises(MachineFault, match="Too many open files; raise the limit"):
        make_plan([item("a"), item("bad")], 1)


def test_memory_that_several_lacked_together_is_asked_for_by_one(monkeypatch):
    tries = {"large": 0, "largest": 0}

    def large():
        tries["large"] += 1
        if tries["large"] == 1:
            raise MemoryError

    def largest():
        tries["largest"] += 1
        raise MemoryError

    monkeypatch.setattr(packs, "registry", Family(large=large, largest=largest))
    plan = make_plan([item("a"), item("large"), item("largest")], 1)
    assert plan.packs == (("a",), ("large",)) and tries == {"large": 2, "largest": 2}
    assert plan.errors["largest"].error.startswith("out of memory while its files were read; give smaller ones")


_READER = """
import os, signal, sys
from talkverse_jax.run.batch import packs
from talkverse_jax.run.batch.readings import Readings
from talkverse_jax.run.batch.store import open_store
from tests.run.batch.test_packs import Family, item

killer = {sys.argv[2]: lambda: os.kill(os.getpid(), signal.SIGKILL)}
packs.registry = Family(**killer)
items = [item(f"v{n}") for n in range(70)]
plan = packs.make_plan(items, 1, Readings(open_store(sys.argv[1]), "work/reading"))
print(len(plan.packs), {name: failure.error for name, failure in plan.errors.items()})
"""


def test_an_item_that_kills_its_readers_is_read_three_times(tmp_path):
    said = []
    for killer in ("v40", "v40", "v40", "v40", "v3", "v3", "v3"):
        done = subprocess.run(
            [sys.executable, "-c", _READER, str(tmp_path), killer],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode in (0, -signal.SIGKILL), done.stderr
        said.append(done.stdout.strip() or "killed")
    failed = "'v40': '3 workers died while its files were read; mend or replace them, or leave the item out'"
    assert said == ["killed"] * 3 + [f"69 {{{failed}}}"] + ["killed"] * 3
