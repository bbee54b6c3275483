"""A video in place of the picture, for the two kinds of weights of a family of which only one takes it."""

import pytest

from tests.families.multitalk.tiny import write_weights
from tests.serve.http.serving import fault, picture, serving, sound
from tests.videos import write_video

USUAL = {"size_bucket": "multitalk-tiny", "frame_num": 13, "motion_frame": 5, "sample_steps": 2}


@pytest.mark.slow
def test_only_weights_that_follow_a_video_take_one(tmp_path):
    made = write_weights(tmp_path)
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
