"""Requests for a model of several speakers, without the model."""

import pytest

from talkverse_jax.serve.http.errors import Fault
from talkverse_jax.serve.http.fields import Fields
from talkverse_jax.serve.http.forms import Form
from talkverse_jax.serve.http.inputs import speaking, wanted
from talkverse_jax.serve.options import ServeOptions

USUAL = {"prompt": "They talk.", "input_reference": "I"}


@pytest.fixture(scope="module")
def fields():
    return Fields(
        "multitalk",
        {"size_bucket": "multitalk-tiny"},
        ServeOptions(),
        speakers=2,
        speaks=True,
        extends=False,
        dubs=True,
    )


def _asked(fields, **given):
    asked = fields.read(Form(USUAL | given))
    return *wanted(asked, fields.dubs), asked


def _wanted(fields, **given):
    found, people, asked = _asked(fields, **given)
    files = fields.table.files("image", people)
    return [(each.name, each.given, each.param) for each in found], files, asked


def test_two_speakers(fields):
    boxes = {"person1": [0, 0, 10, 10], "person2": [0, 10, 10, 20]}
    found, made, asked = _wanted(
        fields, audio_reference="A", audio_reference_2="B", bbox=boxes, audio_type="add", audio_guidance_scale=3
    )
    files = [("audio", "A", "audio_reference"), ("audio2", "B", "audio_reference_2")]
    assert found == [("image", "I", "input_reference"), *files]
    assert made == {"image": "image", "audio": ["audio", "audio2"], "bbox": ["0,0,10,10", "0,10,10,20"]}
    settings = fields.settings(asked)
    assert settings["audio_type"] == "add" and settings["sample_audio_guide_scale"] == 3
    assert [person.sound for person in speaking(["a", None], ["1,1,2,2"])] == ["a", None]


def test_any_number_of_speakers(fields):
    speakers = {
        "1": {"audio": "A", "bbox": [0, 0, 9, 9]},
        "2": {"mask": "M"},
        "3": {"audio": "C", "bbox": [1, 1, 9, 9]},
    }
    found, made, _ = _wanted(fields, speakers=speakers)
    assert [name for name, *_ in found] == ["image", "audio1", "mask2", "audio3"]
    assert found[-1] == ("audio3", "C", "speakers.3.audio")
    assert made == {
        "image": "image",
        "audio": ["audio1", "none", "audio3"],
        "mask": ["none", "mask2", "none"],
        "bbox": ["0,0,9,9", "none", "1,1,9,9"],
    }


@pytest.mark.parametrize(
    "given, expected",
    [
        ({"speakers": {"2": {}}}, ("invalid_value", "speakers")),
        ({"speakers": {}}, ("invalid_value", "speakers")),
        ({"speakers": [1]}, ("invalid_type", "speakers")),
        ({"speakers": {"1": 3}}, ("invalid_type", "speakers.1")),
        ({"speakers": {"1": {"voice": 3}}}, ("unknown_parameter", "speakers.1.voice")),
        ({"speakers": {"1": {"bbox": [1, 2]}}}, ("invalid_value", "speakers.1.bbox")),
        ({"speakers": {"1": {"bbox": [1, 2, 3, "4"]}}}, ("invalid_type", "speakers.1.bbox")),
        ({"speakers": {"1": {}}, "audio_type": "add"}, ("mutually_exclusive_parameters", "audio_type")),
        ({"speakers": {"1": {}}, "audio_reference": "A"}, ("mutually_exclusive_parameters", "speakers")),
        ({"audio_reference_2": "B"}, ("missing_required_parameter", "audio_reference")),
        ({"audio_reference": "A", "bbox": {"left": [1, 2, 3, 4]}}, ("invalid_value", "bbox.left")),
        ({"audio_reference": "A", "bbox": {"person1": [1, 2, 3]}}, ("invalid_value", "bbox.person1")),
        ({"audio_reference": "A", "audio_type": "both"}, ("invalid_value", "audio_type")),
        ({"audio_reference": "A", "video_end": "hold"}, ("unsupported_parameter", "video_end")),
    ],
)
def test_speakers_that_are_none(fields, given, expected):
    with pytest.raises(Fault) as raised:
        _wanted(fields, **given)
    assert (raised.value.code, raised.value.param) == expected


def test_a_model_that_takes_no_video():
    usual = {"size_bucket": "multitalk-tiny"}
    fields = Fields("multitalk", usual, ServeOptions(), speakers=2, speaks=False, extends=False, dubs=False)
    [image, *_], _, _ = _asked(fields, audio_reference="A")
    assert image.allowed == ("picture",)
    with pytest.raises(Fault) as raised:
        fields.read(Form({"prompt": "They talk.", "video_reference": "I", "audio_reference": "A"}))
    assert (raised.value.code, raised.value.param) == ("unsupported_parameter", "video_reference")


def test_the_model_tells_of_speakers(fields):
    can = fields.capabilities()
    assert fields.names["mask"] == "speakers" and fields.names["sample_text_guide_scale"] == "guidance_scale"
    assert fields.speakers == 2 and can["audio_type"]["enum"] == ["para", "add"]
    assert can["guidance_scale"]["default"] == 5.0 and can["motion_frames"]["type"] == "integer"
