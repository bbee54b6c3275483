"""Every field of a request for a video: types, ranges, names."""

import pytest

from talkverse_jax.pipeline.request import SpeakerFiles
from talkverse_jax.serve.http.admission import request_digest
from talkverse_jax.serve.http.fields import VideoRequest
from talkverse_jax.serve.http.inputs import JobFiles
from tests.serve.http.serving import data_url, fault, picture, sound

PICTURE, SOUND = data_url(picture()), data_url(sound())
FIELDS = {"prompt": "She talks.", "input_reference": PICTURE, "audio_reference": SOUND}


def test_json_makes_a_job(clean):
    answer = clean.post(FIELDS | {"seed": 3, "num_clip": 1, "model": "alias", "user": "me"})
    assert answer.status_code == 200, answer.text
    video = answer.json()
    assert (video["status"], video["seed"], video["size"], video["model"]) == ("queued", 3, "128x128", "shown")
    assert (video["num_frames"], video["seconds"], video["clips"], video["queue_position"]) == (25, "1", 1, 1)
    assert video["settings"]["sample_steps"] == 4 and video["settings"]["base_seed"] == 3
    assert video["inputs"]["image"]["width"] == 64 and video["inputs"]["audio"]["seconds"] == 1
    assert 500 <= int(answer.headers["openai-poll-after-ms"]) <= 10_000
    assert clean.left() == []


def test_a_form_makes_a_job(clean):
    data = {"prompt": "She talks.", "num_clip": "1", "init_first_frame": "True", "guidance_scale": "1.5", "user": ""}
    files = {"input_reference": ("../a.png\n", picture(), "image/png"), "audio_reference": ("a", sound(), "x/y")}
    answer = clean.form(data | {"negative_prompt": ""}, files)
    assert answer.status_code == 200, answer.text
    settings = answer.json()["settings"]
    assert settings["init_first_frame"] is True and settings["sample_guide_scale"] == 1.5
    assert settings["negative_prompt"] == ""
    folder = clean.jobs.get("anonymous", answer.json()["id"]).submission.folder
    assert sorted(path.name for path in folder.iterdir()) == ["audio", "image"]
    assert (folder / "image").read_bytes() == picture()


def test_boxes_of_a_form_tell_requests_apart():
    parts = {"bbox": {"person1": [object()]}}  # not yet read: numbers in files
    people = [SpeakerFiles("audio", bbox=box) for box in ("0,0,9,9", "0,0,9,8")]
    told = [request_digest(VideoRequest(parts), JobFiles({}, {}, (person,))) for person in people]
    assert told[0] != told[1]


def test_a_seed_is_drawn(clean):
    seeds = {clean.post(FIELDS | {"seed": -1}).json()["seed"] for _ in range(2)}
    assert len(seeds) == 2 and all(seed >= 0 for seed in seeds) and 7 not in seeds


@pytest.mark.parametrize(
    "fields, expected",
    [
        ({"prompt": ""}, ("invalid_value", "prompt")),
        ({"prompt": "x" * 32_001}, ("invalid_value", "prompt")),
        ({"prompt": 3}, ("invalid_type", "prompt")),
        ({"prompt": None}, ("missing_required_parameter", "prompt")),
        ({"prompt": "a\0b"}, ("invalid_value", "prompt")),
        ({"prompt": "half \ud800"}, ("invalid_value", "prompt")),
        ({"input_reference": None}, ("missing_required_parameter", "input_reference")),
        ({"audio_reference": None}, ("missing_required_parameter", "audio_reference")),
        ({"video_reference": PICTURE}, ("mutually_exclusive_parameters", "video_reference")),
        ({"input_reference": 3}, ("invalid_type", "input_reference")),
        ({"num_clip": 0}, ("invalid_value", "num_clip")),
        ({"num_clip": "3"}, ("invalid_type", "num_clip")),
        ({"num_clip": True}, ("invalid_type", "num_clip")),
        ({"num_clip": 3.0}, ("invalid_type", "num_clip")),
        ({"fps": 24}, ("invalid_value", "fps")),
        ({"size_bucket": "fasttalk-720"}, ("invalid_value", "size_bucket")),
        ({"num_inference_steps": 0}, ("invalid_value", "num_inference_steps")),
        ({"num_inference_steps": 201}, ("invalid_value", "num_inference_steps")),
        ({"sample_steps": 0}, ("invalid_value", "sample_steps")),
        ({"sample_steps": 3, "num_inference_steps": 3}, ("mutually_exclusive_parameters", "num_inference_steps")),
        ({"guidance_scale": 20.5}, ("invalid_value", "guidance_scale")),
        ({"guidance_scale": "1"}, ("invalid_type", "guidance_scale")),
        ({"flow_shift": 0}, ("invalid_value", "flow_shift")),
        ({"flow_shift": 101}, ("invalid_value", "flow_shift")),
        ({"sample_solver": "heun"}, ("invalid_value", "sample_solver")),
        ({"seed": 2**32}, ("invalid_value", "seed")),
        ({"seed": -2}, ("invalid_value", "seed")),
        ({"negative_prompt": "x" * 32_001}, ("invalid_value", "negative_prompt")),
        ({"infer_frames": 6}, ("invalid_value", "infer_frames")),
        ({"infer_frames": 244}, ("invalid_value", "infer_frames")),
        ({"motion_frames": 72}, ("unsupported_parameter", "motion_frames")),
        ({"init_first_frame": 1}, ("invalid_type", "init_first_frame")),
        ({"head_trim_frames": -1}, ("invalid_value", "head_trim_frames")),
        ({"head_trim_frames": 25}, ("invalid_value", "head_trim_frames")),
        ({"audio_alignment": "best"}, ("invalid_value", "audio_alignment")),
        ({"dubbing_noise_strength": 0}, ("invalid_value", "dubbing_noise_strength")),
        ({"dubbing_noise_strength": 0.5}, ("unsupported_parameter", "dubbing_noise_strength")),
        ({"video_end": "loop"}, ("unsupported_parameter", "video_end")),
        ({"use_prompt_extend": True}, ("unsupported_parameter", "use_prompt_extend")),
        ({"user": "x" * 257}, ("invalid_value", "user")),
        ({"tts_text": "Hello"}, ("unsupported_parameter", "tts_text")),
        ({"speakers": {"1": {}}}, ("unsupported_parameter", "speakers")),
        ({"audio_reference_2": SOUND}, ("unsupported_parameter", "audio_reference_2")),
        ({"audio_guidance_scale": 4}, ("unsupported_parameter", "audio_guidance_scale")),
        ({"generator_device": "cpu"}, ("unsupported_parameter", "generator_device")),
        ({"frame_interpolation_exp": 2}, ("unsupported_parameter", "frame_interpolation_exp")),
        ({"weights": "/etc"}, ("unknown_parameter", "weights")),
        ({"mesh": "data=1"}, ("unknown_parameter", "mesh")),
        ({"promt": "a"}, ("unknown_parameter", "promt")),
    ],
)
def test_what_cannot_be_is_refused(server, fields, expected):
    answer = server.post({name: value for name, value in (FIELDS | fields).items() if value is not None})
    assert fault(answer) == (400, *expected), answer.text
    assert server.left() == []


@pytest.mark.parametrize(
    "fields, expected",
    [
        ({"num_clip": "3.5"}, ("invalid_value", "num_clip")),
        ({"guidance_scale": "nan"}, ("invalid_value", "guidance_scale")),
        ({"guidance_scale": "1e999"}, ("invalid_value", "guidance_scale")),
        ({"init_first_frame": "yes"}, ("invalid_value", "init_first_frame")),
        ({"prompt[a]": "x"}, ("invalid_type", "prompt")),
        ({"seed[]": "1"}, ("invalid_type", "seed")),
        ({"nothing": "x"}, ("unknown_parameter", "nothing")),
        ({"a[b][c][d][e]": "x"}, ("unknown_parameter", "a[b][c][d][e]")),
        ({"prompt": "\xff".encode("latin-1")}, ("invalid_value", "prompt")),
    ],
)
def test_what_a_form_cannot_say_is_refused(server, fields, expected):
    data = {"input_reference": PICTURE, "audio_reference": SOUND} | ({} if "prompt[a]" in fields else {"prompt": "a"})
    assert fault(server.form(data | fields)) == (400, *expected)


def test_the_nearest_name_is_told(server):
    message = server.post(FIELDS | {"num_steps": 3}).json()["error"]["message"]
    assert "did you mean" in message


def test_another_model_is_not_found(server):
    assert fault(server.post(FIELDS | {"model": "sora-2"})) == (404, "model_not_found", "model")
    assert fault(server.post(FIELDS | {"model": "sora-2", "seed": -3})) == (400, "invalid_value", "seed")


def test_the_model_tells_its_fields(server):
    listed = server.client.get("/v1/models").json()
    [model] = listed["data"]
    assert listed["object"] == "list" and model["object"] == "model" and model["id"] == "shown"
    can = model["capabilities"]
    assert can["speakers"] == 1 and can["dubbing"] is True and can["speech"] is False
    assert (
        list(can["size_buckets"]) == ["tiny-128", "fasttalk-480"] and "640x640" in can["size_buckets"]["fasttalk-480"]
    )
    steps = {"type": "integer", "default": 4, "minimum": 1, "maximum": 200, "enum": None}
    steps["description"] = "denoising steps of each clip"
    assert can["settings"]["num_inference_steps"] == steps
    assert can["settings"]["sample_solver"]["enum"] == ["unipc", "dpm++", "euler", "renoise"]
    assert can["limits"]["max_sound_seconds"] == 20
    assert server.client.get("/v1/models/alias").json() == model
    assert fault(server.client.get("/v1/models/gpt")) == (404, "model_not_found", "model")
