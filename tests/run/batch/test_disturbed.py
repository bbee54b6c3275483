"""A batch in which everything goes wrong at once: broken items, killed and sleeping workers, a full disk."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from tests.processes import ROOT
from tests.run.batch.drawn import DrawnPipeline, Said, make
from tests.videos import write_video

GOOD = 40
_COMMAND = [sys.executable, "-m", "tests.run.batch.drawn"]
_ISOLATED = ["unshare", "-r", "-m", "-p", "-f", "--mount-proc"]


def good_items(folder: Path) -> list[dict]:
    """Of one to three clips."""
    shutil.copy(ROOT / "assets/face.png", folder / "face.png")
    for number, seconds in enumerate((0.2, 0.4, 0.52)):
        tone = 0.1 * np.sin(np.arange(round(16000 * seconds)) / (9 + number))
        soundfile.write(folder / f"{number}.wav", tone, 16000)
    row = {"image": "face.png", "prompt": "Talks."}
    return [row | {"id": f"good-{n}", "audio": f"{n % 3}.wav"} for n in range(GOOD)]


def broken_lines(folder: Path, out: Path) -> list[str]:
    """Twenty, each in its own way."""
    Image.new("RGB", (64, 64), "red").save(folder / "cut.png")
    (folder / "cut.png").write_bytes((folder / "cut.png").read_bytes()[:60])
    (folder / "text.flv").write_bytes(b"FLV\x01\x05\0\0\0\x09" + b"\xff" * 200)
    (folder / "odd.ts").write_bytes(b"G" + b"\0" * 187 + b"G" + b"\xff" * 187)
    (folder / "empty.png").touch()
    (folder / "damaged.avif").write_bytes(b"\0\0\0\x1cftypavif\0\0\0\0avifmif1" + b"\x7f" * 300)
    os.mkfifo(folder / "pipe.png")
    os.mkfifo(folder / "pipe.wav")
    out.mkdir()
    write_video(out / "source.mp4", 0.4, 25)
    (out / "foreign.json").write_text('{"mine": 1}')
    row = {"image": "face.png", "audio": "0.wav", "prompt": "Talks."}

    def line(**values) -> str:
        return json.dumps(row | values)

    return [
        line(id="https", image="https://example.org/face.png"),
        line(id="scheme", audio="x://sound.wav"),
        line(id="pipe", image="pipe.png"),
        line(id="pipe of sound", audio="pipe.wav"),
        line(id="device", image="/dev/zero"),
        line(id="missing", image="nobody.png"),
        line(id="empty", image="empty.png"),
        line(id="cut", image="cut.png"),
        line(id="avif", image="damaged.avif"),
        line(id="flv", image="text.flv"),
        line(id="ts", audio="odd.ts"),
        line(id="surrogate", prompt="\ud83d"),
        line(id="surrogate in a path", image="\ud83d.png"),
        line(id="gone\u202egnp.exe"),
        line(id={"a": 1}),
        line(id="unknown", promt=""),
        line(id="source"),  # another item reads what stands there
        line(id="foreign"),
        '{"id": "brackets", "image": ' + "[" * 100_000,
        '{"id": "half", ',
    ]


def write_list(folder: Path, out: Path) -> Path:
    good, broken = good_items(folder), broken_lines(folder, out)
    good[5]["image"], good[5]["audio"] = str(out / "source.mp4"), "1.wav"
    lines = [json.dumps(item) for item in good]
    for place, line in enumerate(broken):
        lines.insert(3 * place + 1, line)
    path = folder / "list.jsonl"
    path.write_text("\n".join(lines) + "\n")
    return path


def start(path: Path, out: Path, logs: Path, limit: int | None = None) -> subprocess.Popen:
    """A worker, which says what it says to a file of its own in `logs`.

    Args:
      limit: bytes that a file may have: a disk that is full, as far as the worker can tell.
    """

    def lower() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))

    command = [*_COMMAND, str(path), str(out), "10", "0.3"]
    with (logs / f"{len(os.listdir(logs))}.txt").open("w") as said:
        return subprocess.Popen(command, cwd=ROOT, stderr=said, stdout=said, preexec_fn=lower if limit else None)


def videos(folder: Path) -> dict[str, bytes]:
    return {path.stem: path.read_bytes() for path in folder.glob("good-*.mp4")}


def wait_for(out: Path, count: int) -> None:
    end = time.monotonic() + 600
    while len(videos(out)) < count:
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.slow
def test_forty_videos_come_of_a_list_with_twenty_broken_items(tmp_path):
    """Two workers; one is killed, one sleeps until the other has taken its lease, and files may not be written."""
    calm, out, logs = tmp_path / "calm", tmp_path / "out", tmp_path / "said"
    logs.mkdir()
    path = write_list(tmp_path, out)
    before = sorted(os.listdir(out))
    good = [line for line in path.read_text().splitlines() if '"good-' in line]
    (tmp_path / "calm.jsonl").write_text("\n".join(good))
    assert make(DrawnPipeline(), str(tmp_path / "calm.jsonl"), str(calm), Said()) == 0
    assert len(videos(calm)) == GOOD

    assert start(path, out, logs, limit=5000).wait() == 2
    assert "File too large; raise the limit of a file's length" in (logs / "0.txt").read_text()
    assert not videos(out)

    killed, sleeper = start(path, out, logs), start(path, out, logs)
    wait_for(out, 6)
    killed.kill()
    killed.wait()
    sleeper.send_signal(signal.SIGSTOP)
    assert start(path, out, logs, limit=5000).wait() == 2
    assert start(path, out, logs).wait() == 1
    assert videos(out) == videos(calm)
    sleeper.send_signal(signal.SIGCONT)
    assert sleeper.wait() == 1

    assert videos(out) == videos(calm)
    lines = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
    failed = [line for line in lines if line["state"] == "failed"]
    assert len(lines) == 60 and len(failed) == 20 and sum(line["state"] == "done" for line in lines) == GOOD
    assert len({line["error"] for line in failed}) == 20 and all("\n" not in line["error"] for line in failed)
    said = "".join(log.read_text() for log in sorted(logs.iterdir()))
    assert "Traceback" not in said and "Error:" not in said.replace("error:", "")
    logged = {Path(line["log"]).name for line in failed if "log" in line}
    names = [f"good-{n}.{kind}" for n in range(GOOD) for kind in ("mp4", "json")]
    expected = [*before, *names, "results.jsonl", *(["errors"] if logged else [])]
    assert sorted(os.listdir(out)) == sorted(expected)
    assert set(os.listdir(out / "errors") if logged else ()) == logged
    assert (out / "foreign.json").read_text() == '{"mine": 1}'
    for line in failed:
        print(f"{line['id']}: {line['error']}")


def _isolated(reason: str) -> None:
    tried = subprocess.run([*_ISOLATED, "true"], capture_output=True, text=True, check=False)
    if tried.returncode:
        pytest.skip(f"{reason}: not allowed here ({tried.stderr.strip()})")


@pytest.mark.slow
def test_two_workers_that_count_processes_each_from_one_make_nothing_twice(tmp_path):
    """As in two containers of one hostname: each is process 1 or so of its own numbering."""
    _isolated("namespaces")
    (tmp_path / "list.json").write_text(json.dumps(good_items(tmp_path)[:12]))
    arguments = [str(tmp_path / "list.json"), str(tmp_path / "out"), "60", "0.5"]
    workers = [
        subprocess.Popen([*_ISOLATED, *_COMMAND, *arguments], cwd=ROOT, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    tries: set[str] = set()
    while any(worker.poll() is None for worker in workers):
        tries.update(path.name for path in tmp_path.glob("out/.work-*/good-*"))
        time.sleep(0.05)
    said = [worker.communicate()[1] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], said
    assert tries == {f"good-{n}+1.0" for n in range(12)}  # one try each
    assert len(videos(tmp_path / "out")) == 12


@pytest.mark.slow
def test_a_disk_that_fills_and_is_freed(tmp_path):
    _isolated("mounts")
    (tmp_path / "list.json").write_text(json.dumps(good_items(tmp_path)[:4]))
    out = tmp_path / "out"
    out.mkdir()
    worker = " ".join([*_COMMAND, str(tmp_path / "list.json"), str(out), "60", "0"])
    script = f"""
mount -t tmpfs -o size=256k tmpfs {out}
head -c 215000 /dev/zero > {out}/others
{worker}; echo "rc $?"; ls -A {out}
rm {out}/others
{worker}; echo "rc $?"; ls -A {out}
"""
    done = subprocess.run([*_ISOLATED, "sh", "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    first, second = done.stdout.split("rc ")[1:]
    assert first.startswith("2") and second.startswith("0"), done.stdout + done.stderr
    assert "No space left on device; make room or choose another place; the same command makes" in done.stderr
    assert "Traceback" not in done.stderr and "0 done before, 1 failed" not in done.stderr
    names = [f"good-{n}.{kind}" for n in range(4) for kind in ("json", "mp4")]
    assert second.split()[1:] == sorted([*names, "results.jsonl"])
