"""Who places a batch's workers, by `sample --engine`."""

import importlib.util
import json
import subprocess
import sys

import pytest

from talkverse_jax.cli import main
from talkverse_jax.core.errors import UserError
from talkverse_jax.run.cluster import engine
from tests.processes import ROOT
from tests.run.drawn import WEIGHTS

BATCH = ["sample", "--weights", str(WEIGHTS), "--batch", "list.json", "--output_dir", "out", "--prompt", "Talks."]


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The current folder, with a list, and Ray as if it were installed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    (tmp_path / "list.json").write_text(json.dumps([{"id": "ann", "image": "a.png", "audio": "a.wav"}]))
    return tmp_path


def test_workers_are_the_same_command_without_the_engine(here, monkeypatch):
    called = []
    monkeypatch.setattr(engine, "run_on_hosts", lambda *arguments: called.append(arguments) or 1)
    with pytest.raises(SystemExit) as ended:
        main.run([*BATCH, "--engine", "ray", "--workers", "2", "--hosts", "3", "--ray_address", "head:6379"])
    assert ended.value.code == 1
    ((worker, base, batch, options, _),) = called
    assert worker[:2] == ["talkverse_jax", "sample"] and worker[-2:] == ["--engine", "none"]
    assert worker[2 : 2 + len(BATCH) - 1] == BATCH[1:]
    assert (batch.batch, options.workers, options.hosts, options.ray_address) == ("list.json", 2, 3, "head:6379")
    assert base.settings["prompt"] == "Talks."


def test_a_list_that_cannot_be_read_is_told_before_any_host_is_asked(here):
    (here / "list.json").write_text("[")
    with pytest.raises(UserError, match="list.json"):
        main.run([*BATCH, "--engine", "ray"])


@pytest.mark.parametrize(
    "argv, message",
    [
        (["--workers", "2"], "--workers is for --engine ray"),
        (["--hosts", "2"], "--hosts is for --engine ray"),
        (["--ray_address", "head:6379"], "--ray_address is for --engine ray"),
        (["--engine", "ray", "--workers", "0"], "--workers 0: give 1 or more"),
        (["--engine", "ray", "--hosts", "0"], "--hosts 0: give 1 or more"),
        (["--engine", "slurm"], "--engine slurm: give ray, none"),
    ],
)
def test_what_does_not_go_together(here, argv, message):
    with pytest.raises(UserError, match=message):
        main.run([*BATCH, *argv])


def test_a_single_video_needs_no_engine(here):
    files = ["--image", "a.png", "--audio", "a.wav", "--prompt", "Talks."]
    with pytest.raises(UserError, match="--engine ray is for --batch"):
        main.run(["sample", "--weights", str(WEIGHTS), *files, "--engine", "ray"])


def test_processes_that_meet_are_one_worker_only_together(here):
    with pytest.raises(UserError, match="start each without --coordinator_address, or give --together"):
        main.run([*BATCH, "--num_processes", "1"])
    with pytest.raises(UserError, match="--together is for --batch"):
        main.run(["sample", "--weights", str(WEIGHTS), "--together"])


def test_without_ray_the_line_to_type_is_told(here, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"ray is missing; type: pip install 'talkverse_jax\[ray\]'"):
        main.run([*BATCH, "--engine", "ray"])


def test_nothing_but_one_file_imports_ray():
    code = "import sys, talkverse_jax.cli.sample, talkverse_jax.run.cluster.engine; sys.exit('ray' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
