"""The JSON files of the originals, and our own, from the command line, in a batch and from Python."""

import json
import shutil

import pytest

from talkverse_jax.cli import sample
from talkverse_jax.cli.flags import read
from talkverse_jax.core.errors import UserError
from talkverse_jax.core.options import build
from talkverse_jax.families.multitalk.input_json import notices, read_input_json
from talkverse_jax.families.multitalk.settings import Files, Settings
from talkverse_jax.pipeline.job import Job
from talkverse_jax.pipeline.machine import Machine, Weights
from talkverse_jax.pipeline.pipeline import Pipeline
from talkverse_jax.run.batch.items import Base, read_list
from talkverse_jax.weights import manifest

GROUPS = {"files": Files, "settings": Settings}

# As their examples are, in a repository where paths start from its root.
THEIRS = {
    "prompt": "Two people talk in a studio.",
    "cond_image": "examples/two.png",
    "audio_type": "add",
    "cond_audio": {"person1": "examples/1.wav", "person2": "examples/2.wav"},
    "bbox": {"person1": [160, 120, 1280, 1080], "person2": [160, 1320, 1280, 2280]},
}


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """The current folder."""
    (tmp_path / "examples").mkdir()
    for name in ("two.png", "1.wav", "2.wav", "mask.png"):
        (tmp_path / "examples" / name).write_bytes(b"-")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(values, path="examples/job.json"):
    with open(path, "w") as file:
        json.dump(values, file)
    return path


def test_their_keys_are_our_options(repository):
    assert read_input_json(write(THEIRS)) == {
        "prompt": "Two people talk in a studio.",
        "image": "examples/two.png",
        "audio_type": "add",
        "audio": ["examples/1.wav", "examples/2.wav"],
        "bbox": ["160,120,1280,1080", "160,1320,1280,2280"],
    }
    assert notices("examples/job.json") == (
        "examples/job.json: examples/two.png, examples/1.wav, examples/2.wav: taken from the current folder; beside "
        "the file there is none",
    )


def test_a_file_beside_it_comes_first(repository):
    shutil.copytree("examples", "examples/examples")
    assert read_input_json(write(THEIRS))["image"] == "examples/examples/two.png"
    assert notices("examples/job.json") == ()


def test_boxes_are_taken_in_the_file_s_order_whatever_their_names(repository):
    boxes = {"person2": ["1", 2.0, 3, 4], "person1": [5, 6, 7, 8]}
    assert read_input_json(write(THEIRS | {"bbox": boxes}))["bbox"] == ["1,2,3,4", "5,6,7,8"]


def test_a_silent_person_and_a_video(repository):
    sounds = {"person2": "None", "person1": "examples/1.wav"}
    values = {"prompt": "", "cond_video": "examples/two.png", "cond_audio": sounds}
    assert read_input_json(write(values)) == {
        "prompt": "",
        "image": "examples/two.png",
        "audio": ["examples/1.wav", "none"],
    }


def test_our_own_form(repository):
    people = [{"audio": "1.wav", "bbox": [1, 2, 3, 4]}, {"audio": None, "mask": "mask.png"}]
    values = {"prompt": "", "image": "two.png", "people": people, "sample_steps": 8}
    made = build(GROUPS, {"input_json": write(values), "prompt": "Mine."}, "here")
    boxes, masks = ("1,2,3,4", "none"), ("none", "examples/mask.png")
    expected = Files("examples/two.png", ("examples/1.wav", "none"), boxes, masks, "examples/job.json")
    assert made == {"files": expected, "settings": Settings("Mine.", sample_steps=8)}
    values["people"] = [{"audio": "1.wav"}, {"audio": "2.wav"}]
    assert read_input_json(write(values)).keys() == {"prompt", "image", "audio", "sample_steps"}


def test_flags_win_over_it_and_it_over_none(repository):
    argv = f"--weights w --input_json {write(THEIRS)} --audio_type para --bbox 0,0,4,4 0,4,4,8".split()
    given = read(sample.groups("multitalk"), "sample", "", argv)
    made = given.build(GROUPS)
    assert made["files"].bbox == ("0,0,4,4", "0,4,4,8") and made["files"].audio == ("examples/1.wav", "examples/2.wav")
    assert made["settings"].audio_type == "para" and made["settings"].prompt == THEIRS["prompt"]


def test_a_line_of_a_batch_names_one(repository):
    write(THEIRS)
    rows = [
        {"id": "a", "input_json": "job.json"},
        {"id": "b", "input_json": "job.json", "prompt": "Mine.", "audio": ["1.wav", "none"]},
        {"id": "c", "image": "two.png", "audio": "1.wav", "prompt": "One."},
        {"id": "d", "input_json": "nowhere.json"},
    ]
    with open("examples/list.jsonl", "w") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    common = {"prompt": "Common.", "sample_steps": 3, "audio_type": "para"}
    items = read_list("examples/list.jsonl", Base("multitalk", Weights(weights=""), Machine(), common))
    first, second, third = (item.job for item in items[:3])
    assert (first.settings.prompt, first.settings.sample_steps, first.settings.audio_type) == (
        THEIRS["prompt"],
        3,
        "add",
    )
    assert first.files.image == "examples/two.png" and first.files.bbox == tuple(
        read_input_json("examples/job.json")["bbox"]
    )
    assert second.settings.prompt == "Mine." and second.files.audio == ("examples/1.wav", "none")
    assert third.files == Files("examples/two.png", ("examples/1.wav",))
    assert items[3].error.startswith("examples/nowhere.json: no such file")


def test_what_it_names_decides_the_video_and_is_not_written_over(repository, monkeypatch):
    monkeypatch.setattr(manifest, "identity", lambda folder: {})

    def job(**values):
        return Job.make("multitalk", Weights(weights=""), Machine(), **build(GROUPS, values, "here"), output="t.mp4")

    same = {"image": "two.png", "prompt": "", "base_seed": 1}
    path = write(same | {"people": [{"audio": "1.wav"}, {"audio": None}]})
    shutil.copytree("examples", "elsewhere")
    plain = job(**same | {"image": "elsewhere/two.png", "audio": ["elsewhere/1.wav", "none"]})
    by_json = job(input_json=path)
    assert by_json.identity() == plain.identity()
    assert by_json.identity() != job(input_json=path, audio=["none", "examples/1.wav"]).identity()
    assert ("--input_json", path) in by_json.files_read()


@pytest.mark.parametrize(
    "change, message",
    [
        ({"tts_audio": {"text": "Hi."}}, "tts_audio: give its text as --tts_text, its voices as --tts_voice"),
        ({"cond_audio": {}}, "cond_audio: {}: give sounds by the names person1, person2"),
        ({"cond_audio": {"person2": "examples/1.wav"}}, "give sounds by the names person1, person2"),
        ({"cond_audio": "examples/1.wav"}, "give sounds by the names person1, person2"),
        ({"cond_audio": {"person1": 1}}, "audio: 1: give a path, or null where there is none"),
        ({"cond_image": "lost.png"}, "lost.png: no such file, neither beside it nor in the current folder"),
        ({"cond_video": "examples/two.png"}, "cond_video: says again what image is; give it once"),
        ({"people": [{"audio": "1.wav"}]}, "people: says again what audio is; give it once"),
        ({"people": {}}, "people: {}: give a list such as"),
        ({"people": [{"sound": "1.wav"}]}, "people: person 1: unknown key 'sound'; give audio, bbox, mask"),
        ({"people": [{"mask": "a.png"}]}, "people: person 1: no audio; give a sound, or null for one who says nothing"),
        ({"bbox": {"person1": [1, 2, 3]}}, "bbox: [1, 2, 3]: give [top, left, bottom, right] in pixels"),
        ({"bbox": [[1, 2, 3, "x"]]}, "bbox: [1, 2, 3, 'x']: give [top, left, bottom, right] in pixels"),
        ({"input_json": "b.json"}, "input_json: a file names no other; give the options themselves"),
    ],
)
def test_what_it_cannot_say_is_told_with_its_name(repository, change, message):
    with pytest.raises(UserError) as error:
        read_input_json(write(THEIRS | change))
    assert str(error.value).startswith("examples/job.json: ") and message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text, message", [("[1]", "[1]: no object; give prompt"), ("{", "line 1, column 2: not JSON")])
def test_what_is_no_object(repository, text, message):
    (repository / "a.json").write_text(text)
    with pytest.raises(UserError, match="^a.json") as error:
        read_input_json("a.json")
    assert message in str(error.value)


def test_an_unknown_key_is_told_the_nearest(repository):
    with pytest.raises(UserError, match="unknown key 'promt'; did you mean 'prompt'?"):
        build(GROUPS, {"input_json": write(THEIRS | {"promt": "x"})}, "here")


def test_a_pipeline_s_job_may_name_one(repository, tmp_path):
    (tmp_path / "manifest.json").write_text('{"format": 1, "family": "multitalk", "components": {}}')

    class Bare:
        family, weights, machine = "multitalk", Weights(weights=str(tmp_path)), Machine()

    made = Pipeline.job(Bare(), input_json=write(THEIRS), audio_type="para")
    assert made.settings.audio_type == "para" and made.files.people == 2
