"""What each family makes of a request's fields and files."""

import json

import pytest

from talkverse_jax.core.options import build, describe
from talkverse_jax.pipeline import registry
from talkverse_jax.pipeline.request import SpeakerFiles

FIELDS = ["num_inference_steps", "guidance_scale", "flow_shift", "seed", "seconds", "num_clip", "size", "size_bucket"]
ANN, BOB = SpeakerFiles("ann.wav", bbox="0,0,9,9"), SpeakerFiles("bob.wav", mask="bob.png")


@pytest.mark.parametrize("family", ["talkverse", "multitalk"])
def test_fields_are_options(family):
    module = registry.settings_of(family)
    known = {each.name for each in describe({"settings": module.Settings})}
    assert {module.REQUEST.option(field) for field in [*FIELDS, "prompt", "negative_prompt"]} <= known
    many = module.REQUEST.most_people
    assert many is None or many in known
    for field in ("audio_guidance_scale", "audio_type"):
        assert (module.REQUEST.option(field) in known) == (many is not None)
    assert (module.REQUEST.option("motion_frames") in known) == (module.REQUEST.motion_frames is None)


@pytest.mark.parametrize(
    "family, people, files",
    [
        ("talkverse", [], {"image": "a.png"}),
        ("talkverse", [SpeakerFiles("ann.wav")], {"image": "a.png", "audio": "ann.wav"}),
        ("multitalk", [], {"image": "a.png", "audio": ["a.png"]}),
        ("multitalk", [SpeakerFiles("ann.wav")], {"image": "a.png", "audio": ["ann.wav"]}),
        ("multitalk", [SpeakerFiles("ann.wav"), SpeakerFiles(None)], {"image": "a.png", "audio": ["ann.wav", "none"]}),
        (
            "multitalk",
            [ANN, BOB],
            {
                "image": "a.png",
                "audio": ["ann.wav", "bob.wav"],
                "bbox": ["0,0,9,9", "none"],
                "mask": ["none", "bob.png"],
            },
        ),
        ("second", [ANN, BOB], {"portrait": "a.png", "sounds": ["ann.wav", "bob.wav"]}),
    ],
)
def test_people_are_files(family, people, files):
    module = registry.settings_of(family)
    assert module.REQUEST.files("a.png", people) == files
    build({"files": module.Files}, files, "request")


@pytest.mark.parametrize("recipe", ["multitalk", "infinitetalk"])
def test_who_takes_a_video_and_how_many_people(tmp_path, recipe):
    (tmp_path / "dit").mkdir()
    (tmp_path / "dit" / "config.json").write_text(json.dumps({"recipe": recipe, "speaker_ranges": [[0, 4]] * 3}))
    assert registry.settings_of("talkverse").REQUEST.takes_video(str(tmp_path))
    assert registry.settings_of("multitalk").REQUEST.takes_video(str(tmp_path)) == (recipe == "infinitetalk")
    assert registry.settings_of("talkverse").REQUEST.people(str(tmp_path)) == 1
    assert registry.settings_of("multitalk").REQUEST.people(str(tmp_path)) == 3
