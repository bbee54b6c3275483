"""The client, its command and the examples of docs/clients.md against a real server."""

import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import av
import pytest
import soundfile

from talkverse_jax.client import ApiError, Client, VideoFailed
from tests.client.real import RealServer
from tests.processes import ROOT

pytestmark = pytest.mark.slow

_DOC = ROOT / "docs" / "clients.md"
_SECONDS = 3.0  # of sound: two clips of the tiny model


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """The current folder of the examples."""
    made = tmp_path_factory.mktemp("examples")
    (made / "face.png").write_bytes((ROOT / "assets" / "face.png").read_bytes())
    samples, rate = soundfile.read(ROOT / "assets" / "speech.flac")
    soundfile.write(made / "speech.wav", samples[: int(_SECONDS * rate)], rate)
    return made


@pytest.fixture(scope="module")
def server(tiny_weights, tmp_path_factory):
    made = RealServer(tiny_weights, tmp_path_factory.mktemp("server") / "data", "--heartbeat_seconds", "1")
    try:
        made.start()
        yield made
    finally:
        made.kill()


@pytest.fixture
def client(server):
    with Client(server.address) as made:
        yield made


def frames_of(path: Path) -> int:
    with av.open(path, format="mp4") as container:
        return sum(1 for _ in container.decode(video=0))


def test_a_video_from_beginning_to_end(client, folder, tmp_path):
    seen = []
    video = client.create(folder / "face.png", folder / "speech.wav", prompt="She talks.", seed=7)
    assert (video.status, video.seed, video.extra) == ("queued", 7, {})
    streamed = []
    reader = threading.Thread(target=lambda: streamed.append(b"".join(client.stream(video.id))))
    reader.start()
    done = client.wait(video.id, on_event=seen.append, timeout=300)
    reader.join(60)
    kept = [event for event in seen if event.id is not None]
    assert [event.id for event in kept] == list(range(1, len(kept) + 1))
    assert [event.kind for event in kept if event.kind != "notice"] == [
        *("queued", "started"),
        *["clip"] * done.clips,
        "completed",
    ]
    assert (done.status, done.progress, done.clips_done) == ("completed", 100, done.clips) and done.clips >= 2
    path = client.download(video.id, tmp_path / "talk.mp4")
    assert frames_of(path) == done.num_frames
    (tmp_path / "streamed.mp4").write_bytes(streamed[0])
    assert frames_of(tmp_path / "streamed.mp4") == done.num_frames
    assert client.download(video.id, tmp_path / "face.webp", variant="thumbnail").read_bytes()[:4] == b"RIFF"
    assert client.list(limit=1).data[0].id == video.id
    assert list(client.events(video.id, last_event_id=kept[-1].id)) == []
    client.delete(video.id)
    with pytest.raises(ApiError) as caught:
        client.get(video.id)
    assert (caught.value.status, caught.value.code) == (404, "video_not_found")


def test_a_download_goes_on(client, folder, tmp_path):
    video = client.create(folder / "face.png", folder / "speech.wav", prompt="p", num_clip=1)
    client.wait(video.id, timeout=300)
    whole = client.download(video.id, tmp_path / "a.mp4").read_bytes()
    for left in (whole[:1000], whole, b"something else"):
        (tmp_path / "b.mp4.partial").write_bytes(left)
        assert client.download(video.id, tmp_path / "b.mp4").read_bytes() == whole


def test_a_video_is_stopped(client, folder):
    video = client.create(folder / "face.png", folder / "speech.wav", prompt="p", num_inference_steps=200)
    assert client.cancel(video.id).error["code"] == "cancelled"
    with pytest.raises(VideoFailed, match="cancelled"):
        client.wait(video.id, timeout=60)


def test_a_refusal_names_the_field(client, folder):
    with pytest.raises(ApiError) as caught:
        client.create(folder / "face.png", folder / "speech.wav", prompt="p", num_inference_steps=0)
    error = caught.value
    assert (error.status, error.code, error.param) == (400, "invalid_value", "num_inference_steps")
    assert error.request_id is not None


def test_events_go_on_over_a_restart(server, client, folder):
    """The one who waits sees every event once, and the video is made."""
    seen, restarted = [], []

    def look(event):
        if event.id is not None:
            seen.append(event)
        if event.kind == "clip" and not restarted:
            restarted.append(threading.Thread(target=lambda: (server.stop(), server.start())))
            restarted[0].start()

    video = client.create(folder / "face.png", folder / "speech.wav", prompt="p", num_inference_steps=6)
    assert client.wait(video.id, on_event=look, timeout=400).status == "completed"
    restarted[0].join()
    assert [event.id for event in seen] == list(range(1, len(seen) + 1))
    assert [event.data["clip"] for event in seen if event.kind == "clip"] == list(range(1, video.clips + 1))
    assert seen[-1].kind == "completed"


@pytest.mark.parametrize("more, code", [((), 0), (("--size", "1x1"), 2), (("--no_such_field", "1"), 2)])
def test_the_command(server, folder, more, code):
    words = ["--image", "face.png", "--audio", "speech.wav", "--prompt", "p", "--output", f"out{code}.mp4"]
    command = [sys.executable, "-m", "talkverse_jax", "client", *words, "--num_clip", "1", "--server", server.address]
    done = subprocess.run([*command, *more], cwd=folder, env=_environ(), capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    assert (folder / f"out{code}.mp4").exists() == (code == 0)


def _examples() -> list[tuple[str, str]]:
    """The language and the text of every example of the page."""
    return re.findall(r"```(bash|python)\n(.*?)```", _DOC.read_text(encoding="utf-8"), re.DOTALL)


def _environ() -> dict[str, str]:
    tools = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return os.environ | {"PYTHONPATH": str(ROOT), "PATH": tools, "PYTHONWARNINGS": "ignore"}


@pytest.mark.parametrize("language, text", _examples())
def test_an_example_of_the_page(server, client, folder, language, text):
    if "openai" in text:
        pytest.importorskip("openai")
    if "tts" in text and not client.models()[0]["capabilities"]["speech"]:
        pytest.skip("no voice is installed")
    text = text.replace("http://127.0.0.1:8765", server.address)
    command = ["bash", "-euo", "pipefail", "-c", text] if language == "bash" else [sys.executable, "-c", text]
    done = subprocess.run(command, cwd=folder, env=_environ(), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    if "talk.mp4" in text:
        assert frames_of(folder / "talk.mp4") > 1
        (folder / "talk.mp4").unlink()
