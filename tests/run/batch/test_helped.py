"""Items of a batch that ask for better prompts and speech."""

import json
from pathlib import Path

import pytest

from talkverse_jax.helpers.video_help import VideoHelp
from talkverse_jax.media.walls import LOCAL
from talkverse_jax.pipeline.roles import roles_of
from talkverse_jax.run.batch.helped import ItemHelp, tidy
from talkverse_jax.run.batch.items import Base, read_list
from talkverse_jax.run.batch.store import open_store
from talkverse_jax.run.batch.worker import run_batch
from talkverse_jax.run.options import BatchOptions
from tests.helpers.stub import Answer, chat, stub
from tests.processes import ROOT
from tests.run.batch.drawn import DrawnPipeline, Said
from tests.run.test_helped import WAV

FACE, SPEECH = str(ROOT / "assets/face.png"), str(ROOT / "assets/speech.flac")


@pytest.fixture
def server():
    def answer(asked):
        if asked.path.endswith("/chat/completions"):
            return chat(f"A calm shot. {asked.body['messages'][1]['content'][0]['text']}")
        if asked.path.endswith("/speech") and asked.body["input"] != "Fail.":
            return Answer(WAV)
        return Answer(status=500)

    with stub(answer) as found:
        yield found


@pytest.fixture
def base(server):
    """What items have in common, whose help lies in a folder."""
    usual = {"tts_engine": "openai", "tts_url": server.url, "tts_model": "talker", "tts_voice": "echo"}
    usual |= {"prompt_extend_url": server.url, "prompt_extend_model": "seer"}

    def made(folder, **more):
        help = ItemHelp(lambda: open_store(str(folder)), VideoHelp(LOCAL), usual | more, roles_of("talkverse"))
        pipeline = DrawnPipeline()
        return Base("talkverse", pipeline.weights, pipeline.machine, {"size_bucket": "tiny-128"}, help)

    return made


def listed(folder, *items):
    path = folder / "list.jsonl"
    path.write_text("".join(json.dumps({"image": FACE, "prompt": "She talks."} | item) + "\n" for item in items))
    return str(path)


def run(base, path, folder):
    return run_batch(DrawnPipeline(), base, BatchOptions(path, str(folder)), Said())


def posted(server):
    return [each.body.get("input") or "prompt" for each in server.asked if each.method == "POST"]


def test_items_with_help_and_without(base, server, tmp_path):
    out = tmp_path / "out"
    path = listed(
        tmp_path,
        {"id": "ann", "tts_text": "Hi, I am Ann."},
        {"id": "ben", "tts_text": "Hi, I am Ben.", "tts_voice": "onyx", "use_prompt_extend": True},
        {"id": "carl", "audio": SPEECH, "use_prompt_extend": True},
        {"id": "dora", "audio": SPEECH},
    )
    assert run(base(out), path, out) == 0
    assert posted(server) == ["Hi, I am Ann.", "prompt", "Hi, I am Ben.", "prompt"]
    records = {name: json.loads((out / f"{name}.json").read_text()) for name in ("ann", "ben", "carl", "dora")}
    assert {name: record.get("helpers", {}).get("tts_voice") for name, record in records.items()} == {
        "ann": "echo",
        "ben": "onyx",
        "carl": None,
        "dora": None,
    }
    assert records["carl"]["settings"]["prompt"] == "A calm shot. She talks." and "helpers" not in records["dora"]
    assert records["ben"]["helpers"]["original_prompt"] == "She talks."
    names = {each.name for each in out.iterdir()}
    assert {"ann.speech.wav", "ben.speech.wav"} == {name for name in names if name.endswith(".wav")}
    assert not [name for name in names if name.startswith(".")]
    before = len(server.asked)
    assert run(base(out), path, out) == 0 and len(server.asked) == before  # all is there
    other = listed(tmp_path, {"id": "ann", "tts_text": "Bye."})
    assert run(base(out), other, out) == 1
    said = (out / "results.jsonl").read_text()
    assert "--tts_text was 'Hi, I am Ann.', not 'Bye.'; delete ann.mp4, ann.json, ann.speech.wav" in said


def test_workers_agree_on_what_the_first_was_given(base, server, tmp_path):
    path = listed(tmp_path, {"id": "ann", "tts_text": "Hi.", "use_prompt_extend": True})
    [first], [second] = (read_list(path, base(tmp_path / "out")) for _ in range(2))
    assert first.job and second.job and first.job.identity() == second.job.identity() and first.wish == second.wish
    assert posted(server) == ["prompt", "Hi."]
    tidy(open_store(str(tmp_path / "out")), ["ben"])
    assert (tmp_path / "out/.helped/ann.json").exists()
    tidy(open_store(str(tmp_path / "out")), ["ann"])
    assert sorted(each.name for each in (tmp_path / "out").iterdir()) == ["ann.speech.wav"]


def test_one_that_comes_second_takes_the_note_of_the_first(base, server, tmp_path, monkeypatch):
    folder = tmp_path / "out"
    path = listed(tmp_path, {"id": "ann", "use_prompt_extend": True})
    ask = VideoHelp.help

    def overtaken(self, wish):
        monkeypatch.setattr(VideoHelp, "help", ask)
        [item] = read_list(path, base(folder))
        Path(folder / ".helped/ann.json").write_text(json.dumps(item.job.helped | {"prompt": "The first."}))
        return ask(self, wish)

    monkeypatch.setattr(VideoHelp, "help", overtaken)
    [item] = read_list(path, base(folder))
    assert item.job and item.job.settings.prompt == "The first."


def test_faults_stay_in_their_items(base, server, tmp_path):
    items = read_list(
        listed(
            tmp_path,
            {"id": "a", "tts_text": "Hi.", "audio": SPEECH},
            {"id": "b", "tts_text": "Hi.", "tts_speed": 9.0},
            {"id": "c", "tts_text": "(s2) Hi."},
            {"id": "d", "tts_text": "Hi.", "sample_steps": 0},
            {"id": "e", "tts_text": "Fail."},
            {"id": "f", "tts_engine": "piper", "tts_text": "Hi."},
            {"id": "g", "tts_text": "Hi."},
        ),
        base(tmp_path / "out"),
    )
    said = {item.id: item.error for item in items}
    assert said.pop("a") == "item: tts_text: is given, and audio too; give one of them"
    assert said.pop("b") == "item: tts_speed: 9.0: give 0.25 to 4"
    assert "has words of (s2); the model has one speaker" in said.pop("c")
    assert said.pop("d") == "item: sample_steps: 0: give 1 or more"
    assert "answered with status 500" in said.pop("e")
    assert "unknown key 'tts_engine'" in said.pop("f")
    assert said == {"g": None}


def test_an_endpoint_that_is_gone_is_not_asked_for_every_item(base, server, tmp_path):
    items = read_list(listed(tmp_path, *[{"tts_text": "Fail."}] * 6), base(tmp_path / "out"))
    assert posted(server) == ["Fail."] * 3
    assert items[-1].error and items[-1].error.startswith("not asked, as 3 others had no answer (--tts_url")


def test_a_text_for_all(base, server, tmp_path):
    path = listed(tmp_path, {"id": "ann"}, {"id": "ben", "audio": SPEECH})
    ann, ben = read_list(path, base(tmp_path / "out", tts_text="Hi."))
    assert ann.job and ann.job.files.audio == str(tmp_path / "out/ann.speech.wav")
    assert ben.job and ben.job.files.audio == SPEECH and ben.job.helped is None


def test_speech_that_was_changed(base, server, tmp_path):
    path = listed(tmp_path, {"id": "ann", "tts_text": "Hi."})
    read_list(path, base(tmp_path / "out"))
    (tmp_path / "out/ann.speech.wav").write_bytes(b"other")
    [item] = read_list(path, base(tmp_path / "out"))
    assert item.error and item.error.startswith("ann.speech.wav: is not what was spoken for it; delete it, or delete ")
    (tmp_path / "out/ann.speech.wav").unlink()
    [item] = read_list(path, base(tmp_path / "out"))
    assert item.job and (tmp_path / "out/ann.speech.wav").read_bytes() == WAV


def test_in_a_bucket(base, server, tmp_path):
    path = listed(tmp_path, {"id": "ann", "tts_text": "Hi."})
    given = base("memory://helped_items")
    [first], [second] = (read_list(path, given) for _ in range(2))
    assert first.job and second.job and first.job.files == second.job.files
    assert Path(first.job.files.audio).read_bytes() == WAV and posted(server) == ["Hi."]
