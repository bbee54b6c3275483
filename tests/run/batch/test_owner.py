"""Whose files are: containers share hosts' names and numbers of processes."""

import os
import subprocess
import sys

import pytest

from talkverse_jax.run.batch import owner
from talkverse_jax.run.batch.owner import is_gone, this_process


def test_a_process_is_there_until_it_ends():
    program = "import json; from talkverse_jax.run.batch.owner import *; print(json.dumps(this_process()), flush=True)"
    with subprocess.Popen(
        [sys.executable, "-c", f"{program}; input()"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        told = eval(child.stdout.readline())
        assert told["pid"] == child.pid and not is_gone(told)
        child.communicate("\n")
    assert is_gone(told) and not is_gone(this_process())


@pytest.mark.parametrize("part", ["host", "boot", "space"])
def test_nothing_is_known_of_what_cannot_be_seen(part):
    gone = this_process() | {"pid": 2**22 + 1}
    assert gone[part] and is_gone(gone)
    assert not is_gone(gone | {part: "another"})


def test_notes_of_older_versions_go_by_the_host_alone():
    now = this_process()
    old = {"host": now["host"], "pid": 2**22 + 1, "started": "1"}
    assert is_gone(old) and not is_gone(old | {"host": "another"})
    assert not is_gone({part: now[part] for part in ("host", "pid", "started")})


def test_a_system_without_such_files(monkeypatch, tmp_path):
    monkeypatch.setattr(owner, "_BOOT", tmp_path / "none")
    monkeypatch.setattr(owner, "_SPACE", tmp_path / "none")
    assert this_process()["boot"] == this_process()["space"] == "" and not is_gone(this_process())
    assert is_gone(this_process() | {"pid": 2**22 + 1})


@pytest.mark.parametrize("note", [None, [1], "", {}, {"host": 1}, {"host": os.uname().nodename, "pid": "x"}])
def test_what_is_no_note_is_nobodys(note):
    assert not is_gone(note)
