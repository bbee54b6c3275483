"""A run that is stopped and one that goes on make the video of a run without a stop."""

import os
import signal
import subprocess
import sys
import time

import pytest

from talkverse_jax.run import video as pipeline
from tests.processes import ROOT
from tests.run.test_worker import arguments, run  # noqa: F401
from tests.videos import write_video


class Stop(Exception):
    pass


def stopped(arguments, monkeypatch, clips, **changes):  # noqa: F811
    """Run, and stop before clip `clips` is written."""
    write, written = pipeline.write_clip, []

    def stop(*args):
        if len(written) == clips:
            raise Stop
        written.append(write(*args))

    with monkeypatch.context() as patched, pytest.raises(Stop):
        patched.setattr(pipeline, "write_clip", stop)
        run(arguments | changes)


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({}, id="plain"),
        pytest.param({"init_first_frame": "true", "infer_frames": 12}, id="picture", marks=pytest.mark.slow),
        pytest.param(
            {"sample_steps": 5, "sample_model_every": 2, "sample_guide_every": 2, "sample_window": ["0", "1"]},
            id="sparing",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            {"sample_solver": "renoise", "sample_steps": 4, "sample_guide_scale": 1.0},
            id="student",
            marks=pytest.mark.slow,
        ),
        pytest.param({"dub": True, "head_trim_frames": 3}, id="dubbed and trimmed", marks=pytest.mark.slow),
    ],
)
def test_a_stopped_video_goes_on_to_the_same_bytes(arguments, monkeypatch, tmp_path, capsys, changes):  # noqa: F811
    changes = dict(changes)
    if changes.pop("dub", False):
        changes["image"] = write_video(tmp_path / "source.mp4", 1.0, 24)
    arguments |= {"num_clip": 3} | changes
    run(arguments)
    whole = arguments["output"].read_bytes()
    arguments["output"].unlink()
    stopped(arguments, monkeypatch, 1)
    stopped(arguments, monkeypatch, 1, resume="true")  # and again, one clip later
    left = sorted(path.name for path in arguments["output"].parent.glob("talk.*"))
    assert left == ["talk.json", "talk.partial.mp4", "talk.partial.npz"]
    capsys.readouterr()
    run(arguments | {"resume": "true"})
    said = capsys.readouterr().err
    assert "goes on at clip 3" in said and "2/3" in said and "0/3" not in said  # where the bar of clips begins
    assert arguments["output"].read_bytes() == whole
    assert sorted(path.name for path in arguments["output"].parent.glob("talk.*")) == ["talk.json", "talk.mp4"]


def test_the_seed_that_was_drawn_goes_on(arguments, monkeypatch, capsys):  # noqa: F811
    del arguments["base_seed"]
    stopped(arguments, monkeypatch, 1)
    drawn = capsys.readouterr().err.split("seed ")[1].split()[0]
    run(arguments | {"resume": "true"})
    assert f"seed {drawn}\n" in capsys.readouterr().err


def test_another_video_is_not_gone_on_with(arguments, monkeypatch, capsys, tmp_path):  # noqa: F811
    stopped(arguments, monkeypatch, 1)
    for change, message in {
        "--sample_steps was 2, not 3; give the same": {"sample_steps": 3},
        "--base_seed was 3, not 4": {"base_seed": 4},
        "--prompt was 'A woman talks.', not 'A man.'": {"prompt": "A man."},
        "--audio's file is another": {"audio": ROOT / "assets/speech_other.flac"},
    }.items():
        with pytest.raises(SystemExit):
            run(arguments | {"resume": "true"} | message)
        last = capsys.readouterr().err.strip().splitlines()[-1]
        assert f"talk.partial.npz: of another video: {change}" in last and "leave out --resume" in last
    state = arguments["output"].with_name("talk.partial.npz")
    state.write_bytes(state.read_bytes()[:100])
    with pytest.raises(SystemExit):
        run(arguments | {"resume": "true"})
    assert "talk.partial.npz: damaged; leave out --resume" in capsys.readouterr().err
    run(arguments)  # begins again
    assert sorted(path.name for path in arguments["output"].parent.iterdir()) == ["talk.json", "talk.mp4"]


def test_where_nothing_was_left_it_begins(arguments, capsys):  # noqa: F811
    run(arguments | {"resume": "true", "num_clip": 1})
    assert "nothing to go on from" in capsys.readouterr().err


@pytest.mark.slow
def test_killed_at_any_moment(arguments, tmp_path):  # noqa: F811
    """By SIGKILL, eight times, some clips later each time."""
    arguments |= {"num_clip": 12, "sample_steps": 1}
    run(arguments)
    whole = arguments["output"].read_bytes()
    arguments["output"].unlink()
    words = [word for name, value in arguments.items() for word in (f"--{name}", str(value))]
    command = [sys.executable, str(ROOT / "sample.py"), *words, "--resume"]
    partial = arguments["output"].with_name("talk.partial.npz")
    for kill in range(8):
        before = partial.stat().st_mtime_ns if partial.exists() else 0
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL, env=os.environ)
        while process.poll() is None and not (partial.exists() and partial.stat().st_mtime_ns > before):
            time.sleep(0.01)
        time.sleep(0.04 * kill)
        process.send_signal(signal.SIGKILL)
        process.wait()
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    assert arguments["output"].read_bytes() == whole


def test_a_finished_video_is_left_alone(arguments, capsys):  # noqa: F811
    del arguments["base_seed"]
    run(arguments)
    before = arguments["output"].stat().st_mtime_ns
    run(arguments | {"resume": "true"})
    assert f"{arguments['output']} is finished already" in capsys.readouterr().err
    assert arguments["output"].stat().st_mtime_ns == before
    with pytest.raises(SystemExit):
        run(arguments | {"resume": "true", "num_clip": 1})
    assert "talk.mp4: of another video: --num_clip was 2, not 1; give the same, or leave" in capsys.readouterr().err
    assert arguments["output"].stat().st_mtime_ns == before
