"""The node of ComfyUI against what ComfyUI publishes of nodes; its own modules are played here."""

import hashlib
import importlib.util
import io
import sys
import threading
import time
import types
import wave
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from talkverse_jax.client import ApiError, VideoFailed
from tests.client.scripted import ID, Answer, event, refusal, scripted, stream, told
from tests.processes import ROOT

DONE = told(status="completed")
CONTENT = Answer(200, b"a video", {"ETag": f'"{hashlib.sha256(b"a video").hexdigest()}"'})
SOUND = {"waveform": np.array([[[0.0, 1.0, -2.0], [0.5, 0.0, 0.0]]], np.float32), "sample_rate": 16000}


class Interrupted(BaseException):
    """As ComfyUI's own, which is no `Exception` in some versions."""


class Comfy:
    """What the node uses of ComfyUI."""

    def __init__(self, folder: Path):
        self.shown, self.stopping, self.asked = [], threading.Event(), 0
        utils, management = types.ModuleType("comfy.utils"), types.ModuleType("comfy.model_management")
        latest, paths = types.ModuleType("comfy_api.latest"), types.ModuleType("folder_paths")
        utils.ProgressBar = lambda total: types.SimpleNamespace(update_absolute=self.shown.append)
        management.throw_exception_if_processing_interrupted = self._look
        latest.InputImpl = types.SimpleNamespace(VideoFromFile=lambda file: ("VIDEO", file))
        paths.get_temp_directory = lambda: str(folder / "temp")
        self.modules = {"comfy.utils": utils, "comfy.model_management": management, "comfy_api.latest": latest}
        self.modules |= {"folder_paths": paths, "comfy": types.ModuleType("comfy")}
        self.modules |= {"comfy_api": types.ModuleType("comfy_api")}

    def _look(self) -> None:
        self.asked += 1
        if self.stopping.is_set():
            raise Interrupted


@pytest.fixture
def comfy(tmp_path, monkeypatch):
    made = Comfy(tmp_path)
    for name, module in made.modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.delenv("TALKVERSE_API_KEY", raising=False)
    return made


@pytest.fixture
def package(monkeypatch):
    """The folder, as ComfyUI loads it: by its path."""
    folder = ROOT / "integrations" / "comfyui"
    spec = importlib.util.spec_from_file_location(
        "custom_node", folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "custom_node", module)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def node(package):
    return package.NODE_CLASS_MAPPINGS["TalkVerseVideo"]()


@pytest.fixture
def server():
    with scripted() as made:
        yield made


def make(node, server, **more):
    """The node's own function, with what a workflow gives it."""
    given = {name: spec[1]["default"] for name, spec in node.INPUT_TYPES()["required"].items() if "default" in spec[1]}
    picture = np.full((2, 4, 6, 4), 0.5, np.float32)
    given |= {"image": picture, "audio": SOUND, "prompt": "She talks.", "server": server.address}
    return getattr(node, node.FUNCTION)(**given | more)


def test_the_sockets_and_widgets(package, node):
    types_of = {name: spec[0] for group in node.INPUT_TYPES().values() for name, spec in group.items()}
    assert types_of == {
        **{"image": "IMAGE", "audio": "AUDIO", "prompt": "STRING", "seed": "INT", "steps": "INT", "guidance": "FLOAT"},
        **{"server": "STRING", "video": "VIDEO", "negative_prompt": "STRING", "size_bucket": "STRING"},
        **{"num_clip": "INT", "seconds": "FLOAT"},
    }
    seed = node.INPUT_TYPES()["required"]["seed"][1]
    assert (seed["min"], seed["max"]) == (0, 4294967295)
    assert node.INPUT_TYPES()["required"]["prompt"][1]["multiline"]
    assert (node.RETURN_TYPES, node.RETURN_NAMES) == (("VIDEO", "STRING"), ("video", "video_id"))
    assert package.NODE_DISPLAY_NAME_MAPPINGS.keys() == package.NODE_CLASS_MAPPINGS.keys()
    assert "key" not in " ".join(types_of)


def test_a_video_is_made(comfy, node, server):
    half = event("progress", {"progress": 50}) + event("completed", DONE, 2)
    server.will(told(), stream(half), CONTENT)
    (kind, file), id = make(node, server, seed=7, seconds=1.5, size_bucket="")
    assert (kind, Path(file).read_bytes(), id) == ("VIDEO", b"a video", ID)
    assert comfy.shown == [50, 100]
    assert [line.split()[0] for line in server.lines] == ["POST", "GET", "GET"]
    sent = {name: value for name, value, _ in server.asked[0].parts}
    assert sent.keys() == {
        *("input_reference", "audio_reference", "prompt", "seed", "seconds"),
        *("num_inference_steps", "guidance_scale"),
    }
    assert (sent["prompt"], sent["seed"], sent["seconds"]) == (b"She talks.", b"7", b"1.5")
    picture = Image.open(io.BytesIO(sent["input_reference"]))
    assert (picture.format, picture.size, picture.getpixel((0, 0))) == ("PNG", (6, 4), (128, 128, 128))
    with wave.open(io.BytesIO(sent["audio_reference"])) as sound:
        assert (sound.getnchannels(), sound.getframerate(), sound.getsampwidth()) == (2, 16000, 2)
        samples = np.frombuffer(sound.readframes(9), "<i2").reshape(-1, 2)
    np.testing.assert_array_equal(samples, [[0, 16384], [32767, 0], [-32767, 0]])


@pytest.mark.parametrize("source", ["film.mp4", io.BytesIO(b"a film")], ids=["path", "bytes"])
def test_a_video_is_dubbed_in_place_of_the_image(comfy, node, server, tmp_path, source):
    (tmp_path / "film.mp4").write_bytes(b"a film")
    source = str(tmp_path / source) if isinstance(source, str) else source
    server.will(told(), stream(event("completed", DONE, 1)), CONTENT)
    make(node, server, video=types.SimpleNamespace(get_stream_source=lambda: source))
    assert server.asked[0].parts[0] == ("input_reference", b"a film", True)


def test_what_goes_wrong_is_told(comfy, node, server):
    server.will(refusal(400, "invalid_value"))
    with pytest.raises(ApiError, match="invalid_value it is"):
        make(node, server)
    failed = told(status="failed", error={"code": "out_of_memory", "message": "too large"})
    server.will(told(), stream(event("failed", failed, 1)))
    with pytest.raises(VideoFailed, match="too large"):
        make(node, server)


def test_a_stopped_workflow_removes_the_video(comfy, node, server):
    """Also while nothing happens: it is looked at twice a second."""
    idle = Answer(body=event("progress", {"progress": 1}).encode(), headers=stream().headers, stays_open=60)
    server.will(told(), idle, {"deleted": True})
    threading.Timer(1.2, comfy.stopping.set).start()
    with pytest.raises(Interrupted):
        make(node, server)
    assert server.lines[-1] == f"DELETE /v1/videos/{ID}" and comfy.asked >= 3


def test_a_workflow_stopped_before_the_video_was_accepted(comfy, node, server):
    server.will(refusal(429, "queue_full", Retry_After="1"), told(), {"deleted": True})
    comfy.stopping.set()
    with pytest.raises(Interrupted):
        make(node, server)
    until = time.monotonic() + 20
    while len(server.asked) < 3 and time.monotonic() < until:
        time.sleep(0.05)
    assert server.lines == ["POST /v1/videos"] * 2 + [f"DELETE /v1/videos/{ID}"]


def test_the_key_is_of_the_environment(comfy, node, server, monkeypatch):
    monkeypatch.setenv("TALKVERSE_API_KEY", "secret")
    server.will(told(), stream(event("completed", DONE, 1)), CONTENT)
    make(node, server)
    assert server.asked[0].headers["authorization"] == "Bearer secret"
