"""Many videos by workers that may die at any moment."""

import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import fsspec
import numpy as np
import pytest
import soundfile
from PIL import Image

import sample
from talkverse_jax.cli.command import run_command
from talkverse_jax.core.errors import UserError
from talkverse_jax.pipeline.machine import Machine, Weights
from talkverse_jax.run.batch import worker as workers
from talkverse_jax.run.batch.items import Base, read_list
from talkverse_jax.run.batch.packs import make_plan
from tests.processes import ROOT
from tests.run.test_worker import frames_of
from tests.videos import write_video


def write_items(folder: Path, count: int, **more) -> Path:
    """A list of videos of 5, 10 and 13 frames, with the sounds beside it."""
    for number, seconds in enumerate((0.2, 0.4, 0.52)):
        tone = 0.1 * np.sin(np.arange(round(16000 * seconds)) / (9 + number))
        soundfile.write(folder / f"{number}.wav", tone, 16000)
    face = str(ROOT / "assets/face.png")
    rows = [
        {"id": f"video-{n}", "image": face, "audio": f"{n % 3}.wav", "prompt": f"number {n}"} | more
        for n in range(count)
    ]
    path = folder / "list.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def flags(tiny_weights, tmp_path):
    return {
        "weights": tiny_weights,
        "batch": tmp_path / "list.jsonl",
        "output_dir": tmp_path / "out",
        "size_bucket": "tiny-128",
        "infer_frames": 8,
        "sample_steps": 2,
        "negative_prompt": "blurred",
        "dtype": "float32",
    }


def words(flags: dict) -> list[str]:
    return [word for name, value in flags.items() for word in (f"--{name}", str(value))]


def run(flags: dict) -> int:
    """The exit code."""
    try:
        run_command(lambda: sample.main(words(flags)))
    except SystemExit as stop:
        return stop.code
    return 0


def results(flags: dict) -> dict[str, dict]:
    lines = (Path(flags["output_dir"]) / "results.jsonl").read_text().splitlines()
    return {line["id"]: line for line in map(json.loads, lines)}


def videos(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path(folder).glob("*.mp4")}


def test_a_batch_is_its_videos_one_by_one(flags, tmp_path):
    path = write_items(tmp_path, 3)
    path.write_text(path.read_text().replace("number 2", "number 2 " * 600))
    assert run(flags) == 0
    names = [f"video-{n}.{kind}" for n in range(3) for kind in ("json", "mp4")]
    assert sorted(os.listdir(flags["output_dir"])) == ["results.jsonl", *names]
    found = results(flags)
    assert [line["state"] for line in found.values()] == ["done"] * 3
    assert [line["video_seconds"] for line in found.values()] == [0.2, 0.4, 0.52]
    [notice] = found["video-2"]["notices"]  # what a single run says
    assert re.fullmatch(r"prompt: \d+ tokens, cut to 64", notice) and "notices" not in found["video-1"]
    record = json.loads((flags["output_dir"] / "video-1.json").read_text())
    single = flags | {"image": ROOT / "assets/face.png", "audio": tmp_path / "1.wav"}
    single |= {"prompt": "number 1", "output": tmp_path / "single.mp4"}
    single["base_seed"] = record["settings"]["base_seed"]
    del single["batch"], single["output_dir"]
    assert run(single) == 0
    made, alone = flags["output_dir"] / "video-1.mp4", tmp_path / "single.mp4"
    assert made.read_bytes() == alone.read_bytes()


def test_only_what_is_missing_is_made(flags, tmp_path, monkeypatch):
    write_items(tmp_path, 3)
    assert run(flags) == 0
    before, times = videos(flags["output_dir"]), {}
    for path in flags["output_dir"].glob("*.mp4"):
        times[path.name] = path.stat().st_mtime_ns
    (flags["output_dir"] / "video-2.mp4").unlink()
    assert run(flags) == 0
    assert videos(flags["output_dir"]) == before
    assert times["video-0.mp4"] == (flags["output_dir"] / "video-0.mp4").stat().st_mtime_ns
    monkeypatch.setattr(workers, "Worker", None)  # nothing is loaded where nothing is missing
    assert run(flags) == 0


def test_a_bad_item_is_one_line(flags, tmp_path, monkeypatch):
    good = write_items(tmp_path, 2).read_text()
    bad = [
        {"id": "no-file", "image": "nobody.png", "audio": "0.wav", "prompt": ""},
        {"id": "no-prompt", "image": "face.png", "audio": "0.wav"},
        {"id": "odd", "image": "face.png", "audio": "0.wav", "prompt": "", "promt": ""},
        {"id": "machine", "image": "face.png", "audio": "0.wav", "prompt": "", "weights": "mine"},
        {"id": "../up", "image": "face.png", "audio": "0.wav", "prompt": ""},
        {"id": "both", "image": "face.png", "audio": "0.wav", "prompt": "", "seed": 1, "base_seed": 2},
        {"id": "word", "image": "face.png", "audio": "0.wav", "prompt": "", "seed": "three"},
        ["no object"],
    ]
    flags["batch"].write_text(good + "".join(json.dumps(row) + "\n" for row in bad))
    assert run(flags) == 1
    found = results(flags)
    assert {name for name, line in found.items() if line["state"] == "done"} == {"video-0", "video-1"}
    errors = {name: line["error"] for name, line in found.items() if line["state"] == "failed"}
    assert "nobody.png: no such file" in errors["no-file"]
    assert "missing 'prompt'" in errors["no-prompt"]
    assert "unknown key 'promt'; did you mean 'prompt'" in errors["odd"]
    assert errors["machine"] == "weights: is the same for the whole batch; give it as --weights"
    assert "id '../up'" in errors["#6"] and "not an object" in errors["#9"]
    assert errors["both"] == "seed, base_seed: are the same; give one of them"
    assert errors["word"] == "item: seed: expected int, found 'three'"
    assert len(list(flags["output_dir"].iterdir())) == 5  # no trace of them
    flags["batch"].write_text(good)  # mended
    assert run(flags) == 0 and len(results(flags)) == 2


def test_what_failed_in_a_run_that_was_stopped_is_tried_again(flags, tmp_path, monkeypatch, capsys):
    rows = write_items(tmp_path, 1).read_text()
    flags["lease_timeout"] = 2  # this process seems to live on
    late = {"id": "late", "image": str(ROOT / "assets/face.png"), "audio": "late.wav", "prompt": ""}
    flags["batch"].write_text(rows + json.dumps(late) + "\n")

    def stop(worker, ready):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(workers.Worker, "_make", stop)
        assert run(flags) == 130
        said = capsys.readouterr().err
        assert "late: " in said and "late.wav: no such file" in said
        assert said.endswith("interrupted: the finished videos are kept; the same command makes the others\n")
        assert run(flags) == 130  # the process that found it lives, so it is believed
        said = capsys.readouterr().err
        assert "2 videos, 0 of them done before, 1 failed\nlate: " in said
    shutil.copy(tmp_path / "0.wav", tmp_path / "late.wav")
    monkeypatch.setattr("talkverse_jax.run.batch.results.is_gone", lambda process: process["pid"] == os.getpid())
    assert run(flags) == 0
    assert "2 videos, 0 of them done before\n" in capsys.readouterr().err
    assert results(flags)["late"]["state"] == "done"


@pytest.mark.slow
def test_an_item_that_fails_while_it_is_made_ends_nothing(flags, tmp_path, monkeypatch):
    write_items(tmp_path, 3)
    write = workers.write_clip

    def fails(writer, clip, timeline, job):
        if job.settings.prompt == "number 1":
            raise UserError("clip 1: came out as values that are no numbers")
        write(writer, clip, timeline, job)

    monkeypatch.setattr(workers, "write_clip", fails)
    assert run(flags | {"batch_size": 2}) == 1
    assert [line["state"] for line in results(flags).values()] == ["done", "failed", "done"]
    assert "no numbers" in results(flags)["video-1"]["error"]


@pytest.mark.slow
def test_packed_videos_do_not_depend_on_their_neighbours(flags, tmp_path):
    write_items(tmp_path, 5)
    flags |= {"batch_size": 2}
    assert run(flags) == 0
    packed = videos(flags["output_dir"])
    rows = flags["batch"].read_text().splitlines()
    flags["batch"].write_text("\n".join(rows[2:4]) + "\n")
    assert run(flags | {"output_dir": tmp_path / "other"}) == 0
    other = videos(tmp_path / "other")
    assert len(other) == 2 and all(packed[name] == data for name, data in other.items())
    assert run(flags | {"output_dir": tmp_path / "alone", "batch_size": 1}) == 0
    near = frames_of(tmp_path / "alone/video-3.mp4").astype(int) - frames_of(tmp_path / "other/video-3.mp4")
    assert np.abs(near).mean() < 0.5  # another number of videos tells in the last digits


def test_videos_of_one_shape_come_together_and_are_of_one_length(flags, tmp_path):
    path = write_items(tmp_path, 6)
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    source = write_video(tmp_path / "source.mp4", 0.4, 30)
    rows[2] |= {"bucket": "fasttalk-480"}
    rows[4] |= {"image": source.name}
    rows[5] |= {"sample_steps": 3, "seed": 5}
    path.write_text(json.dumps(rows))  # a JSON list as well
    settings = {"size_bucket": "tiny-128", "infer_frames": 8, "sample_steps": 2}
    items = read_list(str(path), Base("talkverse", Weights(weights=""), Machine(), settings))
    assert items[5].job.seed == 5 != items[4].job.seed >= 0
    packs = make_plan(items, 2).packs
    assert sorted(map(sorted, packs)) == [
        ["video-0", "video-3"], ["video-1"], ["video-2"], ["video-4"], ["video-5"]
    ]  # fmt: skip


def test_packs_have_one_size_whatever_the_fit(tmp_path):
    """A picture of 16:9: padded and cropped it has the bucket's size, in its own shape another."""
    Image.new("RGB", (1920, 1080)).save(tmp_path / "wide.png")
    path = write_items(tmp_path, 5, image="wide.png")
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for row, fit in zip(rows, ("pad", "crop", None, None, None)):
        row |= {"fit": fit} if fit else {}
    path.write_text(json.dumps(rows))
    settings = {"size_bucket": "fasttalk-480", "fit": "exact"}
    items = read_list(str(path), Base("talkverse", Weights(weights=""), Machine(), settings))
    assert [item.job.settings.fit for item in items] == ["pad", "crop", "exact", "exact", "exact"]
    packs = make_plan(items, 4).packs
    assert sorted(map(sorted, packs)) == [["video-0", "video-1"], ["video-2", "video-3", "video-4"]]


@pytest.mark.slow
def test_in_a_bucket(flags, tmp_path):
    write_items(tmp_path, 2)
    assert run(flags) == 0
    fsspec.filesystem("memory").store.clear()
    for _ in range(2):  # again: nothing is missing
        assert run(flags | {"output_dir": "memory://bucket/batch"}) == 0
    found = {name.rpartition("/")[2]: file for name, file in fsspec.filesystem("memory").store.items()}
    assert sorted(found) == sorted(os.listdir(flags["output_dir"]))
    assert all(found[name].getvalue() == data for name, data in videos(flags["output_dir"]).items())


def test_what_was_made_otherwise_is_not_taken_for_done(flags, tmp_path, capsys):
    path = write_items(tmp_path, 2)
    assert run(flags) == 0
    first, second = path.read_text().splitlines()
    path.write_text(json.dumps(json.loads(first) | {"prompt": "another"}) + "\n\n" + second)
    assert run(flags) == 1  # the other one is still done
    error = results(flags)["video-0"]["error"]
    assert "video-0.mp4: was made with prompt 'number 0', not 'another'; delete" in error
    path.write_text(first + "\n" + second)
    (flags["output_dir"] / "video-1.json").write_text("{")
    assert run(flags) == 1
    assert "video-1.json: missing or damaged; move video-1.mp4 away" in results(flags)["video-1"]["error"]
    weights = tmp_path / "weights"
    shutil.copytree(flags["weights"], weights)
    manifest = weights / "manifest.json"
    values = json.loads(manifest.read_text().replace('"sha256": "', '"sha256": "0'))
    del values["crc32"]
    manifest.write_text(json.dumps(values))
    assert run(flags | {"weights": weights}) == 1
    assert "video-0.mp4: was made with other weights; delete" in results(flags)["video-0"]["error"]


def test_two_lists_at_once_leave_each_other_alone(flags, tmp_path, monkeypatch):
    """One that ends while another is at work takes nothing from it."""
    path = write_items(tmp_path, 1)
    (tmp_path / "second.jsonl").write_text(path.read_text().replace("video-0", "other-0"))
    write, ran = workers.write_clip, []

    def meanwhile(*args):
        if not ran:
            ran.append(None)
            assert run(flags | {"batch": tmp_path / "second.jsonl"}) == 0
        write(*args)

    monkeypatch.setattr(workers, "write_clip", meanwhile)
    assert run(flags) == 0
    found = ["other-0.json", "other-0.mp4", "results.jsonl", "video-0.json", "video-0.mp4"]
    assert sorted(os.listdir(flags["output_dir"])) == found


@pytest.mark.parametrize(
    "change, message",
    [
        ({"batch": "none.json"}, "none.json: no such file"),
        ({"output_dir": ""}, "--output_dir is empty"),
        ({"batch_size": 0}, "--batch_size 0: give 1 or more"),
        ({"lease_timeout": 1}, "--lease_timeout 1: give 2 or more"),
        ({"resume": "true"}, "--resume is for single videos"),
        ({"num_processes": 2}, "--batch starts workers that are independent"),
        ({"weights": "nowhere"}, "nowhere: no such folder"),
    ],
)
def test_bad_flags(flags, tmp_path, capsys, change, message):
    write_items(tmp_path, 1)
    assert run(flags | change) == 2
    assert message in capsys.readouterr().err.splitlines()[-1]
    assert not list(tmp_path.glob("out/.work*"))  # nothing was begun


def test_a_folder_without_a_list(flags, tmp_path, capsys):
    del flags["batch"]
    assert run(flags | {"image": "a.png", "audio": "a.wav", "prompt": ""}) == 2
    assert "--output_dir is for --batch" in capsys.readouterr().err


@pytest.mark.parametrize(
    "text, message",
    [
        (b"[", "line 1, column 2: not JSON"),
        ("{}\né".encode("latin-1"), "line 2: byte 0xe9 is not UTF-8"),
        (b"word\n\nword", "line 1, column 1: not JSON"),
        (b"[]", "no items"),
        (b'[{"id": "a"}, {"id": "a"}]', "two items"),
    ],
)
def test_bad_lists(flags, tmp_path, capsys, text, message):
    flags["batch"].write_bytes(text)
    assert run(flags) == 2
    assert message in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.slow
def test_two_workers_killed_at_random_times(flags, tmp_path):
    """40 videos, 24 kills: all is done once, to the bytes of an undisturbed run, and nothing is left over."""
    seed = random.SystemRandom().randrange(10**6)
    print("seed", seed)
    rng = random.Random(seed)
    write_items(tmp_path, 40)
    assert run(flags | {"output_dir": tmp_path / "calm"}) == 0
    command = [sys.executable, str(ROOT / "sample.py"), *words(flags | {"lease_timeout": 5})]
    errors = open(tmp_path / "errors", "w")  # noqa: SIM115

    def start() -> subprocess.Popen:
        return subprocess.Popen(command, stderr=errors)

    running, kills, ended = [start(), start()], 0, []
    deaths = [time.monotonic() + rng.uniform(0, 16) for _ in running]
    while any(process is not None for process in running):
        for place, process in enumerate(running):
            if process is None:
                continue
            if process.poll() is not None:
                ended.append(process.returncode)
                done = len(list(flags["output_dir"].glob("*.mp4")))
                print("worker ended with", process.returncode, "at", done, "videos after", kills, "kills")
                running[place] = None
            elif kills < 24 and time.monotonic() > deaths[place]:
                process.send_signal(signal.SIGKILL)
                process.wait()
                kills += 1
                running[place], deaths[place] = start(), time.monotonic() + rng.uniform(0, 16)
        time.sleep(0.02)
    print("kills", kills)
    assert kills >= 20 and set(ended) == {0}, (tmp_path / "errors").read_text()[-2000:]
    assert videos(flags["output_dir"]) == videos(tmp_path / "calm")
    lines = (flags["output_dir"] / "results.jsonl").read_text().splitlines()
    assert [json.loads(line)["id"] for line in lines] == [f"video-{n}" for n in range(40)]
    assert {json.loads(line)["state"] for line in lines} == {"done"}
    assert sorted(os.listdir(flags["output_dir"])) == sorted(os.listdir(tmp_path / "calm"))


def test_a_video_that_kills_its_workers_fails_in_the_end(flags, tmp_path, monkeypatch):
    write_items(tmp_path, 2)
    monkeypatch.setattr(workers, "MOST_TRIES", 3)
    enter = workers.Leases.__enter__

    def after_others(leases):
        gone = json.dumps({"host": socket.gethostname(), "pid": 2**22 + 1, "started": "1"}).encode()
        for attempt in range(3):
            leases.store.create(f"{leases.folder}/video-0+1.{attempt}", gone)
        return enter(leases)

    monkeypatch.setattr(workers.Leases, "__enter__", after_others)
    assert run(flags) == 1
    found = results(flags)
    assert found["video-0"]["error"] == "3 workers died over it" and found["video-1"]["state"] == "done"
