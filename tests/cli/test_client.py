"""The command `client`, against a server whose answers are written down."""

import hashlib
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from talkverse_jax.cli import client
from talkverse_jax.core.errors import UserError
from tests.client.scripted import ID, Answer, Scripted, event, refusal, scripted, stream, told
from tests.processes import ROOT

DONE = told(status="completed", seed=7)
CONTENT = Answer(200, b"a video", {"ETag": f'"{hashlib.sha256(b"a video").hexdigest()}"'})
STEP = {"status": "in_progress", "phase": "denoising", "clip": 1, "clips": 3, "step": 4, "steps": 10}
STEP |= {"eta_seconds": 40, "queue_position": None}


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TALKVERSE_API_KEY", raising=False)
    Path("face.png").write_bytes(b"a picture")
    Path("speech.wav").write_bytes(b"a sound")
    with scripted() as made:
        yield made


def words(server: Scripted, *more: str) -> list[str]:
    video = ["--image", "face.png", "--audio", "speech.wav", "--prompt", "She talks.", "--output", "out/talk.mp4"]
    return [*video, "--server", server.address, *more]


def run(server: Scripted, *more: str) -> None:
    client.main(words(server, *more), "talkverse-jax client")


def test_a_video_is_made_and_fetched(server, capsys):
    waits = STEP | {"status": "queued", "queue_position": 2}
    happens = event("progress", waits) + event("notice", {"message": "cut"}, 1) + event("progress", STEP)
    server.will(told(notices=["small"]), stream(happens + event("completed", DONE, 2)), CONTENT)
    run(server, "--seed", "7", "--negative_prompt", "", "--size=auto", "--use_prompt_extend", "--num_clip", "2")
    assert Path("out/talk.mp4").read_bytes() == b"a video"
    assert capsys.readouterr().err.splitlines() == [
        "small",
        "waits, number 2",
        "cut",
        "denoising, clip 1 of 3, step 4 of 10, 40 s left",
        "out/talk.mp4: 4.84 s of 128x128, seed 7",
    ]
    texts = [(name, value.decode()) for name, value, is_file in server.asked[0].parts if not is_file]
    assert texts == [
        *(("prompt", "She talks."), ("seed", "7"), ("negative_prompt", ""), ("size", "auto")),
        *(("use_prompt_extend", "true"), ("num_clip", "2")),
    ]


def test_objects_and_lists(server):
    server.will(refusal(400, "invalid_value"))
    with pytest.raises(UserError):
        run(server, "--speakers", '{"1": {"audio": "speech.wav"}}', "--many", "a", "b", "--seed", "-1")
    parts = [each for each in server.asked[0].parts if each[0] not in ("input_reference", "audio_reference", "prompt")]
    assert parts == [
        ("speakers[1][audio]", b"a sound", True),
        *(("many[]", b"a", False), ("many[]", b"b", False), ("seed", b"-1", False)),
    ]


@pytest.mark.parametrize(
    "more, said",
    [
        (["--image", "nobody.png"], "nobody.png: no such file"),
        (["--output", "talk.gif"], "--output talk.gif: give the name of a video"),
        (["--output", "face.png/talk.mp4"], "--output face.png/talk.mp4: cannot be written"),
        (["--speakers", "{1"], "--speakers is no JSON"),
        (["--seed", "1", "--seed", "2"], "--seed is given twice"),
        (["--server", "here"], "--server here: no address of a server; give it as http://HOST:PORT"),
        (["stray"], "stray"),
    ],
)
def test_what_a_person_gets_wrong(server, more, said):
    with pytest.raises(UserError) as caught:
        run(server, *more)
    assert said in str(caught.value) and server.asked == []


def test_the_video_may_not_be_what_is_read(server):
    Path("talk.mp4").write_bytes(b"a video to dub")
    with pytest.raises(UserError, match="is read too .--image talk.mp4.; give another --output"):
        run(server, "--image", "talk.mp4", "--output", "./talk.mp4")


def ended(server: Scripted, *more: str) -> tuple[int, str]:
    """Exit code and standard error of the command as a process."""
    command = [sys.executable, "-m", "talkverse_jax", "client", *words(server, *more)]
    done = subprocess.run(command, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert done.stdout == ""
    return done.returncode, done.stderr


def test_exit_codes(server):
    server.will(refusal(400, "invalid_value"))
    assert ended(server, "--size", "1x1") == (2, "error: size: invalid_value it is\n")
    failed = told(status="failed", error={"code": "out_of_memory", "message": "too large"})
    server.will(told(), stream(event("failed", failed, 1)))
    assert ended(server) == (1, f"error: {ID}: too large (out_of_memory)\n")
    assert not Path("out/talk.mp4").exists()
    server.will(told(), stream(event("completed", DONE, 1)), CONTENT)
    assert ended(server) == (0, "out/talk.mp4: 4.84 s of 128x128, seed 7\n")


def test_an_interrupted_video_is_removed(server):
    happens = Answer(body=event("progress", STEP).encode(), headers=stream().headers, stays_open=60)
    server.will(told(), happens, {"deleted": True})
    command = [sys.executable, "-m", "talkverse_jax", "client", *words(server)]
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a child of who ignores it ignores it too
    try:
        process = subprocess.Popen(command, env={"PYTHONPATH": str(ROOT)}, stderr=subprocess.PIPE, text=True)
    finally:
        signal.signal(signal.SIGINT, before)
    assert process.stderr is not None and process.stderr.readline().startswith("denoising")
    process.send_signal(signal.SIGINT)
    began = time.monotonic()
    assert (process.stderr.read(), process.wait()) == (f"interrupted: {ID} is stopped and removed\n", 130)
    assert time.monotonic() - began < 5 and server.lines[-1] == f"DELETE /v1/videos/{ID}"
