"""A family that is no part of the package is served: it has no table of sizes, and options of other names."""

import time

import pytest

from talkverse_jax.core.errors import UserError
from talkverse_jax.serve.http.errors import Fault
from talkverse_jax.serve.http.fields import Fields
from talkverse_jax.serve.http.forms import Form
from talkverse_jax.serve.options import ServeOptions
from tests.second import places
from tests.serve.http.serving import data_url, fault, sound
from tests.serve.processes import ServerProcess

USUAL = {"prompt": "She talks.", "input_reference": "I", "audio_reference": "A"}


def _fields(**options) -> Fields:
    return Fields("second", {"steps": 3}, ServeOptions(**options), speakers=1, speaks=False, extends=False, dubs=False)


def test_a_family_without_tables_of_sizes():
    fields = _fields()
    can = fields.capabilities()
    assert fields.buckets == () and "size_bucket" not in can and can["size"]["enum"] == ["auto"]
    assert can["num_inference_steps"]["default"] == 3
    asked = fields.read(Form(USUAL | {"size": "auto", "num_inference_steps": 5}))
    assert fields.settings(asked) == {"scene": "She talks.", "steps": 5}
    for name, value, code in (
        ("size", "640x640", "invalid_value"),
        ("size_bucket", "tiny-128", "unsupported_parameter"),
        ("width", 640, "unsupported_parameter"),
        ("motion_frames", 73, "unsupported_parameter"),
    ):
        with pytest.raises(Fault) as raised:
            fields.read(Form(USUAL | {name: value}))
        assert (raised.value.code, raised.value.param) == (code, name)
    with pytest.raises(UserError, match="no tables of sizes"):
        _fields(size_buckets=("tiny-128",))


@pytest.mark.slow
def test_a_video_of_a_family_of_its_own(tmp_path):
    weights = places.make(tmp_path).weights
    start = ["-c", "import sys, tests.second; from talkverse_jax.cli.main import run; run(sys.argv[1:])"]
    with ServerProcess(tmp_path / "data", weights, "--dtype", "float32", program=start) as server:
        ask = server.client.post
        [model] = server.client.get("/v1/models").json()["data"]
        assert model["id"] == "second" and model["capabilities"]["size_buckets"] == {}
        fields = {"prompt": "She talks.", "input_reference": data_url(places.FACE.read_bytes())}
        fields["audio_reference"] = data_url(sound(0.8))
        answer = ask("/v1/videos", json=fields | {"num_inference_steps": 1, "seed": 3})
        assert answer.status_code == 200, answer.text
        made = answer.json()
        assert (made["size"], made["steps"], made["seed"], made["clips"]) == ("32x32", 1, 3, 2)
        assert fault(ask("/v1/videos", json=fields | {"size": "640x640"})) == (400, "invalid_value", "size")
        while made["status"] in ("queued", "in_progress"):
            time.sleep(0.2)
            made = server.client.get(f"/v1/videos/{made['id']}").json()
        assert made["status"] == "completed", made["error"]
        assert server.client.get(f"/v1/videos/{made['id']}/content").content[4:8] == b"ftyp"
        form = {"image": places.FACE.read_bytes(), "audio": sound(0.4)}
        answer = ask("/infer", files=form, data={"sample_steps": "1", "num_clip": "1"}, timeout=60)
        assert fault(answer) == (400, "unsupported_parameter", "num_clip")
        answer = ask("/infer", files=form, data={"sample_steps": "1", "base_seed": "5"}, timeout=60)
        assert answer.status_code == 200 and answer.content[4:8] == b"ftyp", answer.text
