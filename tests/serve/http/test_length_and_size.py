"""How long a video is asked to be, and how large."""

import pytest

from talkverse_jax.serve.http.fields import Fields
from talkverse_jax.serve.http.forms import Form
from talkverse_jax.serve.options import ServeOptions
from tests.serve.http.serving import data_url, fault, picture, sound

FIELDS = {"prompt": "She talks.", "input_reference": data_url(picture()), "audio_reference": data_url(sound())}


@pytest.mark.parametrize(
    "fields, expected",
    [
        ({"num_frames": 0}, ("invalid_value", "num_frames")),
        ({"num_frames": "3"}, ("invalid_type", "num_frames")),
        ({"num_frames": True}, ("invalid_type", "num_frames")),
        ({"num_frames": 3.0}, ("invalid_type", "num_frames")),
        ({"seconds": 0}, ("invalid_value", "seconds")),
        ({"seconds": "long"}, ("invalid_value", "seconds")),
        ({"seconds": 21}, ("invalid_value", "seconds")),
        ({"seconds": True}, ("invalid_type", "seconds")),
        ({"size": "1x1"}, ("invalid_value", "size")),
        ({"size": 3}, ("invalid_type", "size")),
        ({"width": 128}, ("missing_required_parameter", "height")),
        ({"width": 128, "height": 128, "size": "auto"}, ("mutually_exclusive_parameters", "width")),
    ],
)
def test_what_cannot_be_is_refused(server, fields, expected):
    assert fault(server.post(FIELDS | fields)) == (400, *expected)


@pytest.mark.parametrize(
    "asked, expected",
    [
        ({"size": "160x128"}, ("160x128", "tiny-128")),
        ({"width": 640, "height": 640}, ("640x640", "fasttalk-480")),
        ({"size": "1280x720"}, ("160x128", "tiny-128")),
        ({"size": "1280x720", "size_bucket": "fasttalk-480"}, ("896x448", "fasttalk-480")),
        ({"size": "auto"}, ("128x128", "tiny-128")),
    ],
)
def test_sizes(clean, asked, expected):
    video = clean.post(FIELDS | asked).json()
    assert (video["size"], video["settings"]["size_bucket"]) == expected


def test_the_least_limit_counts(clean):
    assert clean.post(FIELDS | {"seconds": "0.41", "num_frames": 20}).json()["num_frames"] == 11
    assert clean.post(FIELDS | {"seconds": 0.8, "num_frames": 7, "num_clip": 1}).json()["num_frames"] == 7


def test_a_server_with_a_size_of_its_own():
    usual = {"size_bucket": "tiny-128", "size": "160x128"}
    options = ServeOptions(size_buckets=("fasttalk-480",))
    fields = Fields("talkverse", usual, options, speakers=1, speaks=False, extends=False, dubs=True)

    def made(**asked) -> tuple[str, str]:
        found = fields.settings(fields.read(Form({"prompt": "a", "input_reference": "I"} | asked)))
        return found["size_bucket"], found["size"]

    assert made() == ("tiny-128", "160x128") and made(size="AUTO") == ("tiny-128", "auto")
    assert made(size_bucket="fasttalk-480") == ("fasttalk-480", "auto")
    assert fields.capabilities()["size"]["default"] == "160x128"
