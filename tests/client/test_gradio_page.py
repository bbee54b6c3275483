"""The page of Gradio, where Gradio is installed: what it shows of a server, and what its buttons ask."""

import hashlib
from pathlib import Path

import pytest

from talkverse_jax.core.errors import UserError
from tests.client.scripted import ID, Answer, event, refusal, stream, told
from tests.processes import ROOT

pytestmark = pytest.mark.slow

DONE = told(status="completed", seed=7)
CONTENT = Answer(200, b"a video", {"ETag": f'"{hashlib.sha256(b"a video").hexdigest()}"'})
STEP = {"status": "in_progress", "phase": "denoising", "clip": 1, "clips": 3, "progress": 30, "eta_seconds": 40}
STEPS = {"type": "integer", "default": 4, "minimum": 1, "maximum": 200, "enum": None}
SEED = {"type": "integer", "default": None, "minimum": 0, "maximum": 4294967295, "enum": None}
SOLVER = {"type": "string", "default": "unipc", "minimum": None, "maximum": None, "enum": ["unipc", "euler"]}


@pytest.fixture
def page_module():
    pytest.importorskip("gradio")
    from talkverse_jax.client import gradio_page

    return gradio_page


def model(able: bool) -> dict:
    settings = {"num_inference_steps": STEPS, "seed": SEED, "sample_solver": SOLVER, "unheard_of": SEED}
    capabilities = {"settings": settings, "dubbing": able, "speech": able, "prompt_enhancement": able}
    return {"data": [{"id": "toy", "capabilities": capabilities}]}


def labels(page) -> list[str]:
    shown = [part["props"] for part in page.get_config_file()["components"]]
    return [props.get("label") or props.get("value") for props in shown if props.get("label") or "variant" in props]


def test_the_page_shows_what_the_server_can(page_module, server, client):
    server.will(model(True), {"voices": ["joe"], "uploaded_voices": []})
    shown = labels(page_module.gradio_page(client))
    assert {"Picture", "Video, in place of the picture", "Sound", "Voice", "Improve prompt", "Make video"} <= {*shown}
    assert {"Steps", "Seed", "Solver"} <= {*shown} and "Guidance" not in shown
    server.will(model(False))
    shown = labels(page_module.gradio_page(client))
    assert not {"Video, in place of the picture", "Voice", "Improve prompt"} & {*shown}


def test_a_video_is_made(page_module, server, client):
    happens = event("progress", STEP) + event("completed", DONE, 2)
    server.will(told(), stream(happens), DONE, CONTENT)
    made, names = [], ("num_inference_steps", "seed")
    given = (None, str(ROOT / "assets" / "face.png"), str(ROOT / "assets" / "speech.flac"), "p", 4, -1)
    for status, _, file, id in page_module._make(client, names, *given):
        made.append((status, file and Path(file).read_bytes(), id))
    assert made == [
        ("Sending ...", None, None),
        ("Denoising, clip 1 of 3: 30 %, 40 s left", None, ID),
        ("4.84 s of 128x128, seed 7", b"a video", None),
    ]
    texts = [(name, value) for name, value, is_file in server.asked[0].parts if not is_file]
    assert texts == [("prompt", b"p"), ("num_inference_steps", b"4")]


def test_what_goes_wrong_is_shown(page_module, server, client):
    server.will(refusal(400, "invalid_value"))
    *_, last = page_module._make(client, (), str(ROOT / "assets" / "face.png"), None, "p")
    assert last[0] == "**invalid_value it is**"
    failed = told(status="failed", error={"code": "cancelled", "message": "It was stopped."})
    server.will(told(), stream(event("failed", failed, 1)), failed)
    *_, last = page_module._make(client, (), str(ROOT / "assets" / "face.png"), None, "p")
    assert last[0] == "**It was stopped.**"


def test_the_other_buttons(page_module, server, client):
    server.will(Answer(body=b"RIFF"), {"prompt": "better"}, told(status="failed"))
    assert Path(page_module._speak(client, "Hello.", "joe")).read_bytes() == b"RIFF"
    assert page_module._improve(client, "good", None, str(ROOT / "assets" / "face.png")) == "better"
    page_module._stop(client, ID)
    page_module._stop(client, None)
    assert server.lines[2:] == [f"POST /v1/videos/{ID}/cancel"]


def test_the_command_needs_a_server(page_module, server):
    from talkverse_jax.cli.gradio import main

    with pytest.raises(UserError, match="--server http://127.0.0.1:9: "):
        main(["--server", "http://127.0.0.1:9"], "talkverse-jax gradio")
