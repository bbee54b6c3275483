"""The official client of OpenAI's API, as it is, against a server that makes videos of a tiny model."""

import json
import warnings

import httpx
import openai
import pytest
from openai.types import Video

from tests.client.real import RealServer
from tests.serve.http.serving import data_url, fault, picture, sound

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def url(tiny_weights, tmp_path_factory):
    server = RealServer(tiny_weights, tmp_path_factory.mktemp("server") / "data")
    try:
        server.start()
        yield server.address
    finally:
        server.kill()


@pytest.fixture
def client(url):
    warnings.simplefilter("ignore", DeprecationWarning)  # OpenAI has shut its own videos down
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as made:
        yield made


def test_from_creation_to_deletion(client, url):
    audio = {"audio_reference": {"audio_url": data_url(sound(), "audio/wav")}}
    video = client.videos.create(
        prompt="She talks.",
        input_reference=("face.png", picture(), "image/png"),
        seconds="4",
        size="1280x720",
        extra_body=audio | {"seed": 7, "init_first_frame": True},
    )
    assert video.status == "queued" and video.size == "160x128" and video.id.startswith("video_")
    done = client.videos.poll(video.id, poll_interval_ms=500)
    assert done.status == "completed" and done.progress == 100 and done.seconds == "1", done
    assert done.model_extra["settings"]["init_first_frame"] is True and done.model_extra["seed"] == 7
    content = client.videos.download_content(video.id)
    assert content.read()[4:8] == b"ftyp"
    thumbnail = client.videos.download_content(video.id, variant="thumbnail").read()
    assert (
        thumbnail[:4] == b"RIFF"
        and client.videos.download_content(video.id, variant="spritesheet").read()[:2] == b"\xff\xd8"
    )
    assert client.videos.retrieve(video.id).completed_at is not None
    second = _create_by_json(client)
    third = _create_with_a_file(client)
    assert [each.id for each in client.videos.list(limit=1)] == [third.id, second.id, video.id]
    assert client.videos.delete(video.id).deleted is True
    with pytest.raises(openai.NotFoundError) as raised:
        client.videos.retrieve(video.id)
    assert raised.value.code == "video_not_found" and raised.value.request_id.startswith("req_")
    for each in (second, third):
        client.videos.delete(each.id)
    assert fault(httpx.get(f"{url}/v1/videos/{video.id}/content", trust_env=False))[0] == 404


def _create_by_json(client) -> Video:
    body = {"input_reference": {"image_url": data_url(picture())}}
    body |= {"audio_reference": {"audio_url": data_url(sound())}, "num_clip": 1}
    return client.videos.create(prompt="By JSON.", extra_body=body, extra_headers={"Content-Type": "application/json"})


def _create_with_a_file(client) -> Video:
    files = [
        ("input_reference", ("a.png", picture(), "image/png")),
        ("audio_reference", ("a.wav", sound(), "audio/wav")),
    ]
    form = {"headers": {"Content-Type": "multipart/form-data"}}
    return client.post("/videos", cast_to=Video, body={"prompt": "A file."}, files=files, options=form)


def test_errors_are_those_of_the_client(client):
    with pytest.raises(openai.BadRequestError) as raised:
        client.videos.create(prompt="x", input_reference=("a.png", picture(), "image/png"), size="1x1")
    assert (raised.value.code, raised.value.param) == ("invalid_value", "size")


def test_models(client):
    [model] = client.models.list()
    assert model.id == "talkverse" and client.models.retrieve("talkverse").owned_by == "talkverse_jax"


def test_speech(client, url):
    if not httpx.get(f"{url}/v1/models", trust_env=False).json()["data"][0]["capabilities"]["speech"]:
        pytest.skip("no engine is installed")
    content = client.audio.speech.create(model="tts-1", voice="alloy", input="Good morning.", response_format="wav")
    assert content.read()[:4] == b"RIFF"


def test_the_original_page(url):
    """What the original's page sends, and what it takes for success."""
    data = {"prompt": "A person speaking.", "size_bucket": "fasttalk-720", "max_area": "901120", "infer_frames": "40"}
    data |= {"num_clip": "1", "sample_steps": "2", "sample_guide_scale": "1.0", "base_seed": "3"}
    data |= {"offload_model": "True", "init_first_frame": "False", "sample_solver": "unipc"}
    files = {
        name: (f"{name}.bin", content, "application/octet-stream")
        for name, content in (("image", picture()), ("audio", sound()))
    }
    with httpx.Client(base_url=url, timeout=300, trust_env=False) as page:
        answer = page.post("/infer", data=data, files=files)
        assert answer.status_code == 200 and answer.headers["content-type"] == "video/mp4"
        assert answer.content[4:8] == b"ftyp"
        told = page.post("/infer", data=data | {"stream": "0"}, files=files).json()
        assert page.get(told["video_url"]).content == answer.content, json.dumps(told)
        assert page.get("/health").json()["ok"] is True
