"""A model of several people, whole: what is told of each, and of whose weights only some take a video."""

import io

import pytest
from PIL import Image

from tests.families.multitalk.tiny import write_weights
from tests.serve.http.serving import data_url, fault, picture, serving, sound
from tests.serve.http.toy_helpers import ToyEngine
from tests.videos import write_video

pytestmark = pytest.mark.slow

USUAL = {"size_bucket": "multitalk-tiny", "frame_num": 13, "motion_frame": 5, "sample_steps": 2}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Weights by recipe."""
    return write_weights(tmp_path_factory.mktemp("weights"))


def _right_half(width: int, height: int) -> bytes:
    """A mask."""
    mask = Image.new("L", (width, height))
    mask.paste(255, (width // 2, 0, width, height))
    file = io.BytesIO()
    mask.save(file, "PNG")
    return file.getvalue()


def test_each_person_is_told(tmp_path, made):
    with serving(tmp_path / "data", made["multitalk"], "multitalk", defaults=USUAL) as server:
        fields = {"prompt": "They talk.", "input_reference": data_url(picture(96, 64))}
        people = {
            "1": {"bbox": [16, 8, 56, 40]},
            "2": {"audio": data_url(sound(0.5)), "mask": data_url(_right_half(96, 64))},
        }
        answer = server.post(fields | {"speakers": people})
        assert answer.status_code == 200, answer.text
        told = answer.json()["inputs"]
        assert told["speakers"]["1"] == {"audio": None, "bbox": [16, 8, 56, 40]}
        assert told["speakers"]["2"]["audio"] == told["audio"] and told["audio"]["seconds"] == 0.5
        assert told["speakers"]["2"]["mask"]["width"] == 96


def test_two_people_speak_a_text(tmp_path, made):
    with serving(tmp_path / "data", made["multitalk"], "multitalk", defaults=USUAL, engine=ToyEngine()) as server:
        fields = {"prompt": "They talk.", "input_reference": data_url(picture(96, 64)), "tts_voice_2": "bert"}
        answer = server.post(fields | {"tts_text": "(s1) Good morning. (s2) Hello."})
        assert answer.status_code == 200, answer.text
        video = answer.json()
        assert (video["settings"]["tts_voice"], video["settings"]["tts_voice_2"]) == ("anna", "bert")
        told = [video["inputs"]["speakers"][number]["audio"] for number in "12"]
        assert {each["source"] for each in told} == {"speech"} and told[0] == video["inputs"]["audio"]
        assert told[0]["sha256"] != told[1]["sha256"]
        assert told[0]["seconds"] == told[1]["seconds"] == pytest.approx(1.9, abs=0.1)
        job = server.jobs.get("anonymous", video["id"]).submission
        assert job.files["audio"] == ["speech1.wav", "speech2.wav"]


def test_only_weights_that_follow_a_video_take_one(tmp_path, made):
    film = write_video(tmp_path / "film.mp4", 0.6, size=(64, 64)).read_bytes()
    for recipe, weights in made.items():
        with serving(tmp_path / f"of {recipe}", weights, "multitalk", defaults=USUAL) as server:
            [model] = server.client.get("/v1/models").json()["data"]
            assert model["capabilities"]["dubbing"] == (recipe == "infinitetalk")
            talk = {"prompt": "She talks."}
            with_sound = server.form(talk, {"input_reference": film, "audio_reference": sound()})
            alone = server.form(talk, {"input_reference": film})
            named = server.form(talk, {"video_reference": film})
            if recipe == "infinitetalk":
                assert [each.status_code for each in (with_sound, alone, named)] == [200, 200, 200], alone.text
                assert alone.json()["inputs"]["audio"]["source"] == "video" and alone.json()["num_frames"] == 15
            else:
                assert fault(with_sound) == fault(alone) == (415, "unsupported_media", "input_reference")
                assert fault(named) == (400, "unsupported_parameter", "video_reference")
            assert server.form(talk, {"input_reference": picture(), "audio_reference": sound()}).status_code == 200
