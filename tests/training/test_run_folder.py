"""One run at a time in a folder."""

import subprocess
import sys

import pytest

from talkverse_jax.cli.flags import parse
from talkverse_jax.core.errors import UserError
from talkverse_jax.families.talkverse import settings as family_settings
from talkverse_jax.sharding.process_options import HEARTBEAT_TIMEOUT
from talkverse_jax.training import loop, run_folder
from talkverse_jax.training.options import RunFolder, TrainOptions, train_groups
from tests.processes import ROOT
from tests.training import runs

HOLD = """
import sys
from talkverse_jax.training.options import RunFolder, TrainOptions, train_groups
from talkverse_jax.training.run_folder import alone

with alone(RunFolder(*sys.argv[1:])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    """A process that is at work in `run`, with its checkpoints in `kept`."""
    command = [sys.executable, "-c", HOLD, str(tmp_path / "run"), str(tmp_path / "kept")]
    pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    process = subprocess.Popen(command, cwd=ROOT, **pipes)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def test_a_second_run_is_refused(tmp_path, holder):
    for folder in (RunFolder(str(tmp_path / "run")), RunFolder(str(tmp_path / "other"), str(tmp_path / "kept"))):
        at_work = rf"(run|kept): another run is at work in it; .* --output_path \(process {holder.pid} on .+\)$"
        with pytest.raises(UserError, match=at_work), run_folder.alone(folder):
            raise AssertionError
    holder.kill()
    holder.wait()
    with run_folder.alone(RunFolder(str(tmp_path / "run"))):
        assert (tmp_path / "run" / run_folder.LOCK).exists()
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["checkpoints"]


def test_others_of_the_same_run_hold_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(run_folder, "is_main", lambda: False)
    folder = RunFolder(str(tmp_path / "run"))
    with run_folder.alone(folder), run_folder.alone(folder):
        assert list((tmp_path / "run").iterdir()) == []


def test_a_run_holds_its_folder(tmp_path, monkeypatch):
    """Before it reads data or checkpoints."""
    place = runs.make(tmp_path)
    held = tmp_path / "run" / run_folder.LOCK
    monkeypatch.setattr(loop, "Checkpoints", lambda *_, **__: pytest.fail("at work") if not held.exists() else 1 / 0)
    with pytest.raises(ZeroDivisionError):
        loop.train(place.options(tmp_path / "run"))
    assert not held.exists()


def test_what_a_run_was_told_tells_it_again(tmp_path):
    given = dict(
        weights='C:\\w "1"',
        dataset_metadata_path=("a.csv", "ü.csv"),
        output_path=str(tmp_path),
        learning_rate=1e-5,
        logit_normal=(0.0, 1.0),
        use_tensorboard=False,
        max_steps=7,
        process_id=None,
        heartbeat_timeout=9,
    )
    options = TrainOptions.build(family_settings, given, "here")
    run_folder.write_config(options, {"lora_rank": 16}, {"data": "abc\n(5 samples)"})
    text = (tmp_path / run_folder.CONFIG).read_text(encoding="utf-8")
    assert "# data: abc (5 samples)\n" in text
    made = parse(train_groups(family_settings), "train", "", ["--config", str(tmp_path / run_folder.CONFIG)])
    again = TrainOptions(**made)
    assert again.flat() == options.flat() | {"lora_rank": 16, "heartbeat_timeout": HEARTBEAT_TIMEOUT}
