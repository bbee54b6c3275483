"""The node in a ComfyUI that runs: `TALKVERSE_COMFYUI=http://127.0.0.1:8188` names it. The node and the client are
installed there (integrations/comfyui/README.md); it is reached on this machine's own address alone.

Tried with ComfyUI 0.3.64, `--cpu`, on 2026-11-28.
"""

import hashlib
import os
import time
import uuid
from collections.abc import Callable
from typing import Any

import httpx
import numpy as np
import pytest

from talkverse_jax.media.video_writer import VideoWriter
from tests.client.scripted import ID, Answer, event, scripted, stream, told
from tests.processes import ROOT

ADDRESS = os.environ.get("TALKVERSE_COMFYUI", "")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not ADDRESS, reason="no ComfyUI is named by TALKVERSE_COMFYUI")]


@pytest.fixture
def comfy():
    with httpx.Client(base_url=ADDRESS, timeout=30) as made:
        for name in ("face.png", "speech.flac"):
            files = {"image": (name, (ROOT / "assets" / name).read_bytes())}
            made.post("/upload/image", files=files, data={"overwrite": "true"}).raise_for_status()
        yield made


@pytest.fixture
def server():
    with scripted() as made:
        yield made


def queued(comfy: httpx.Client, address: str) -> str:
    """The id of a workflow that ComfyUI now runs: picture and sound, our node, a file."""
    node = {"image": ["1", 0], "audio": ["2", 0], "prompt": "She talks.", "seed": uuid.uuid4().int % 2**32}
    node |= {"steps": 4, "guidance": 1.0, "server": address}
    workflow = {
        "1": {"class_type": "LoadImage", "inputs": {"image": "face.png"}},
        "2": {"class_type": "LoadAudio", "inputs": {"audio": "speech.flac"}},
        "3": {"class_type": "TalkVerseVideo", "inputs": node},
        "4": {
            "class_type": "SaveVideo",
            "inputs": {"video": ["3", 0], "filename_prefix": "talk", "format": "auto", "codec": "auto"},
        },
    }
    answer = comfy.post("/prompt", json={"prompt": workflow})
    assert answer.status_code == 200, answer.text
    return answer.json()["prompt_id"]


def waited(look: Callable[[], Any]) -> Any:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        if found := look():
            return found
        time.sleep(0.1)
    raise AssertionError("nothing happened in a minute")


def test_a_workflow_makes_a_video(comfy, server, tmp_path):
    with VideoWriter(
        tmp_path / "talk.mp4", width=64, height=64, sound=[np.zeros((4800, 1), np.float32)], rate=48000
    ) as out:
        out.write(np.zeros((5, 64, 64, 3), np.uint8))
    made = (tmp_path / "talk.mp4").read_bytes()
    happens = event("progress", {"progress": 40}) + event("completed", told(status="completed"), 1)
    server.will(told(), stream(happens), Answer(200, made, {"ETag": f'"{hashlib.sha256(made).hexdigest()}"'}))
    run = queued(comfy, server.address)
    history = waited(lambda: comfy.get(f"/history/{run}").json().get(run))
    assert history["status"]["status_str"] == "success", history["status"]
    [saved] = history["outputs"]["4"]["images"]
    file = comfy.get("/view", params={"filename": saved["filename"], "subfolder": saved["subfolder"]}).content
    assert file[4:8] == b"ftyp"
    assert len(server.asked) == 3
    sent = {name: value for name, value, _ in server.asked[0].parts}
    assert sent["input_reference"][:4] == b"\x89PNG" and sent["audio_reference"][:4] == b"RIFF"
    assert sent["num_inference_steps"] == b"4"


def test_a_stopped_workflow_removes_the_video(comfy, server):
    idle = Answer(body=event("progress", {"progress": 1}).encode(), headers=stream().headers, stays_open=60)
    server.will(told(), idle, {"deleted": True})
    run = queued(comfy, server.address)
    waited(lambda: len(server.asked) >= 2)
    comfy.post("/interrupt")
    history = waited(lambda: comfy.get(f"/history/{run}").json().get(run))
    assert "execution_interrupted" in [kind for kind, _ in history["status"]["messages"]]
    assert server.lines[-1] == f"DELETE /v1/videos/{ID}"
