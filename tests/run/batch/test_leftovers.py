"""Folders of work that nobody works in."""

import json
import os
import time
from pathlib import Path

import pytest

from talkverse_jax.run.batch.leases import Leases
from talkverse_jax.run.batch.leftovers import clear
from talkverse_jax.run.batch.owner import this_process
from talkverse_jax.run.batch.store import open_store

TIMEOUT = 60.0
GONE = this_process() | {"pid": 2**22 + 1}


def lease(root: Path, folder: str, holder: dict, age: float) -> None:
    (root / folder / "worker").mkdir(parents=True)
    for name, content in (
        (f"{folder}/a+1.0", json.dumps(holder)),
        (f"{folder}/plan", "{}"),
        (f"{folder}/worker/x", ""),
    ):
        (root / name).write_text(content)
    for path in ((root / folder), *(root / folder).rglob("*")):
        os.utime(path, (time.time() - age,) * 2)


@pytest.mark.parametrize(
    "holder, age, left",
    [
        (this_process(), 2 * TIMEOUT, False),
        (this_process(), 90_000.0, True),  # an hour and more than a day without a sign of life
        (GONE, 0.0, False),  # a worker of that list may have begun just now
        (GONE, 2 * TIMEOUT, True),
        (GONE | {"host": "another"}, 2 * TIMEOUT, False),
        (GONE | {"host": "another"}, 90_000.0, True),
        (GONE | {"host": "another", "ended": "stopped"}, 2 * TIMEOUT, True),
    ],
)
def test_a_folder_goes_when_no_worker_lives(tmp_path, holder, age, left):
    lease(tmp_path, ".work-other", holder, age)
    clear(open_store(str(tmp_path)), ".work-mine", TIMEOUT)
    assert (tmp_path / ".work-other").exists() != left


def test_the_leases_of_a_living_worker_keep_its_folder(tmp_path):
    store = open_store(str(tmp_path))
    with Leases(store, ".work-other", TIMEOUT) as leases:
        assert leases.take("a+1", None)
        clear(store, ".work-mine", TIMEOUT)
        assert store.names(".work-other") == ["a+1.0"]


def test_only_ours_goes_and_what_an_older_version_left_unfinished(tmp_path):
    for name in (".new-abc", ".new-def", "film.mp4", ".work", "notes"):
        (tmp_path / name).write_text("")
    os.utime(tmp_path / ".new-abc", (time.time() - 7200,) * 2)
    store = open_store(str(tmp_path))
    (tmp_path / ".work-mine").mkdir()
    clear(store, ".work-mine", TIMEOUT)
    assert sorted(os.listdir(tmp_path)) == [".new-def", ".work", "film.mp4", "notes"]
