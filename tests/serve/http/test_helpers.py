"""The helpers' routes, and what they make for a video."""

import pytest

from talkverse_jax.core.errors import UserError
from tests.serve.http.serving import data_url, fault, picture, serving, sound
from tests.serve.http.toy_helpers import ToyEngine, ToyEnhancer

VIDEO = {"prompt": "She talks.", "input_reference": data_url(picture())}


@pytest.fixture(scope="module")
def helping(tiny_weights, tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    with serving(folder, tiny_weights, engine=ToyEngine(), enhancer=ToyEnhancer(), max_sound_seconds=20) as made:
        yield made


def _speech(server, **fields):
    return server.client.post("/v1/audio/speech", json=fields)


@pytest.mark.parametrize(
    "form, kind, begins",
    [
        ("mp3", "audio/mpeg", b"ID3"),
        ("wav", "audio/wav", b"RIFF"),
        ("flac", "audio/flac", b"fLaC"),
        ("opus", "audio/ogg", b"OggS"),
        ("aac", "audio/aac", b"\xff"),
        ("pcm", "audio/pcm", b""),
    ],
)
def test_speech(helping, form, kind, begins):
    answer = _speech(helping, input="Good morning.", model="tts-1", voice="alloy", response_format=form, speed=2)
    assert answer.status_code == 200 and answer.headers["content-type"] == kind
    assert answer.headers["x-voice"] == "anna" and answer.content.startswith(begins)
    if form == "pcm":
        assert len(answer.content) == 2 * round(1.3 / 2 * 24000)


@pytest.mark.parametrize(
    "fields, expected",
    [
        ({}, (400, "missing_required_parameter", "input")),
        ({"input": ""}, (400, "invalid_value", "input")),
        ({"input": "x" * 4097}, (400, "invalid_value", "input")),
        ({"input": "x", "model": "gpt"}, (404, "model_not_found", "model")),
        ({"input": "x", "voice": "nobody"}, (400, "invalid_value", "voice")),
        ({"input": "x", "voice": 3}, (400, "invalid_type", "voice")),
        ({"input": "x", "speed": 5}, (400, "invalid_value", "speed")),
        ({"input": "x", "response_format": "ogg"}, (400, "invalid_value", "response_format")),
        ({"input": "x", "stream_format": "sse"}, (400, "invalid_value", "stream_format")),
        ({"input": "x", "instructions": "loud"}, (400, "unsupported_parameter", "instructions")),
        ({"input": "x", "stream": True}, (400, "unknown_parameter", "stream")),
        ({"input": "x" * 201}, (413, "sound_too_long", "input")),
        ({"input": "fail"}, (502, "upstream_error", None)),
    ],
)
def test_speech_that_cannot_be(helping, fields, expected):
    answer = _speech(helping, **fields)
    assert fault(answer) == expected and "secret" not in answer.text


def test_voices(helping):
    assert helping.client.get("/v1/audio/voices").json() == {"voices": ["anna", "bert"], "uploaded_voices": []}
    assert _speech(helping, input="x", voice={"id": "bert"}).headers["x-voice"] == "bert"


def test_better_prompts(helping):
    told = helping.client.post("/v1/prompts/enhance", json={"prompt": "talk", "target_lang": "zh"}).json()
    assert told.pop("created_at") > 1.7e9
    expected = {"object": "prompt.enhancement", "prompt": "better talk None", "original_prompt": "talk"}
    assert told == expected | {"model": "toy-vl", "target_lang": "zh"}
    files = {"input_reference": ("a.png", picture(96, 64)), "prompt": (None, "talk")}
    told = helping.client.post("/v1/prompts/enhance", files=files).json()
    assert told["prompt"] == "better talk (64, 96, 3)" and helping.left() == []


@pytest.mark.parametrize(
    "fields, expected",
    [
        ({"prompt": "late"}, (504, "upstream_timeout", None)),
        ({"prompt": "fail"}, (502, "upstream_error", None)),
        ({"prompt": "x", "target_lang": "fr"}, (400, "invalid_value", "target_lang")),
        ({"target_lang": "en"}, (400, "missing_required_parameter", "prompt")),
        ({"prompt": "x", "input_reference": "data:;base64,AAAA"}, (415, "unsupported_media", "input_reference")),
    ],
)
def test_prompts_that_cannot_be_better(helping, fields, expected):
    answer = helping.client.post("/v1/prompts/enhance", json=fields)
    assert fault(answer) == expected and "secret" not in answer.text
    assert answer.status_code < 500 or answer.headers["x-should-retry"] == "false"


def test_the_original_page_asks_for_a_prompt(helping):
    files = {"image": ("image.png", picture(), "application/octet-stream"), "audio": ("audio.wav", sound())}
    told = helping.client.post("/enhance", data={"user_prompt": "talk"}, files=files).json()
    better = "better talk (64, 64, 3)"
    assert told == {"visual_caption": better, "audio_caption": "", "combined": better}


def test_a_video_of_a_text(helping):
    text = "Good morning to you all."
    answer = helping.post(VIDEO | {"tts_text": text, "tts_voice": "bert", "tts_speed": 2, "use_prompt_extend": True})
    assert answer.status_code == 200, answer.text
    video = answer.json()
    assert video["prompt"] == "better She talks. (64, 64, 3)" and video["original_prompt"] == "She talks."
    assert video["inputs"]["audio"]["source"] == "speech" and video["inputs"]["audio"]["seconds"] == 1.2
    settings = video["settings"]
    assert settings["prompt_extend_model"] == "toy-vl" and settings["prompt_extend_instruction"] == "0123456789ab"
    assert (settings["tts_voice"], settings["tts_text"], settings["tts_speed"]) == ("bert", text, 2)
    job = helping.jobs.get("anonymous", video["id"]).submission
    assert job.files["audio"] == "speech1.wav" and (job.folder / "speech1.wav").is_file()
    assert job.settings["prompt"] == video["prompt"]


@pytest.mark.parametrize(
    "fields, expected",
    [
        ({"tts_text": "x", "audio_reference": data_url(sound())}, (400, "mutually_exclusive_parameters", "tts_text")),
        ({"tts_voice": "anna", "audio_reference": data_url(sound())}, (400, "missing_required_parameter", "tts_text")),
        ({"tts_text": "x" * 4097}, (400, "invalid_value", "tts_text")),
        ({"tts_text": "hello", "tts_voice": "nobody"}, (400, "invalid_value", "tts_voice")),
        ({"tts_text": "hello", "tts_speed": 0.1}, (400, "invalid_value", "tts_speed")),
        ({"tts_text": "fail"}, (502, "upstream_error", None)),
        ({"tts_text": "x" * 201}, (413, "sound_too_long", "tts_text")),
    ],
)
def test_videos_of_texts_that_cannot_be(helping, fields, expected):
    assert fault(helping.post(VIDEO | fields)) == expected and helping.left() == []


def test_a_repeated_request_asks_no_helper(helping, monkeypatch):
    fields = VIDEO | {"tts_text": "Good morning.", "use_prompt_extend": True}
    first = helping.post(fields, {"Idempotency-Key": "a"})

    def refused(*args, **kwargs):
        raise UserError("is not asked again")

    monkeypatch.setattr(ToyEngine, "say", refused)
    monkeypatch.setattr(ToyEnhancer, "enhance", refused)
    assert helping.post(fields, {"Idempotency-Key": "a"}).json()["id"] == first.json()["id"]


def test_helpers_that_are_off(server):
    for path, body in (("/v1/audio/speech", {"input": "x"}), ("/v1/prompts/enhance", {"prompt": "x"})):
        assert fault(server.client.post(path, json=body)) == (404, "not_enabled", None)
    assert fault(server.client.get("/v1/audio/voices")) == (404, "not_enabled", None)
    assert fault(server.client.post("/enhance", files={"user_prompt": (None, "x")})) == (404, "not_enabled", None)


def test_the_model_tells_of_helpers(helping):
    [model] = helping.client.get("/v1/models").json()["data"]
    assert model["capabilities"]["speech"] is True and model["capabilities"]["prompt_enhancement"] is True
