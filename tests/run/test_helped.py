"""A single video with a better prompt and a spoken text, by the command, on a pipeline that draws."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from talkverse_jax.cli import main
from talkverse_jax.core.errors import UserError
from talkverse_jax.core.lock import locked
from talkverse_jax.helpers.speech.engine import Utterance
from talkverse_jax.helpers.speech.formats import encode
from talkverse_jax.pipeline import registry
from tests.helpers.stub import Answer, chat, stub
from tests.processes import ROOT
from tests.run.drawn import WEIGHTS, Drawn

WAV = encode(Utterance(np.sin(np.arange(24_000) * 0.1).astype(np.float32) / 2, 24_000), "wav")


@pytest.fixture
def server():
    """Improves prompts and speaks texts; `asked` counts."""

    def answer(asked):
        if asked.path.endswith("/chat/completions"):
            return chat(f"A calm shot. {asked.body['messages'][1]['content'][0]['text']}")
        return Answer(WAV) if asked.path.endswith("/speech") else Answer(status=404)

    with stub(answer) as found:
        yield found


@pytest.fixture
def sample(tmp_path, monkeypatch, server):
    """Calls the command in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    pipeline = Drawn()
    family = dataclasses.replace(registry.find("talkverse"), load_pipeline=lambda *args, **options: pipeline)
    monkeypatch.setattr(registry, "find", lambda name: family)
    monkeypatch.setattr("talkverse_jax.core.compile_cache.enable", lambda: None)

    def call(*flags, prompt="She talks.", speech=True):
        command = ["sample", "--weights", WEIGHTS, "--image", ROOT / "assets/face.png", "--prompt", prompt]
        command += ["--size_bucket", "tiny-128", "--output", "talk.mp4"]
        command += ["--prompt_extend_url", server.url, "--prompt_extend_model", "seer"]
        if speech:
            command += ["--tts_engine", "openai", "--tts_url", server.url, "--tts_model", "talker"]
        main.run([*map(str, command), *flags])
        return json.loads(Path("talk.json").read_text())

    return call


def test_a_better_prompt_and_a_text(sample, server, capfd):
    record = sample("--use_prompt_extend", "true", "--tts_text", "Good morning.", "--tts_voice", "echo")
    assert record["settings"]["prompt"] == record["made_from"]["prompt"] == "A calm shot. She talks."
    assert Path(record["settings"]["audio"]).samefile("talk.speech.wav") and Path("talk.speech.wav").read_bytes() == WAV
    told = record["helpers"]
    assert (told["original_prompt"], told["prompt"]) == ("She talks.", "A calm shot. She talks.")
    assert (told["prompt_extend_model"], told["prompt_extend_target_lang"]) == ("seer", "en")
    assert len(told["prompt_extend_instruction"]) == 12
    assert (told["tts_engine"], told["tts_voice"], told["tts_text"]) == ("openai", "echo", "Good morning.")
    [chatted] = [each for each in server.asked if each.path.endswith("completions")]
    assert len(chatted.body["messages"][1]["content"]) == 2  # with the picture
    assert sorted(path.name for path in Path().iterdir()) == ["talk.json", "talk.mp4", "talk.speech.wav"]
    assert "prompt, improved by seer: A calm shot. She talks." in capfd.readouterr().err


def test_resume_asks_nobody_again(sample, server, monkeypatch):
    flags = ("--use_prompt_extend", "true", "--tts_text", "Hi.", "--base_seed", "3")
    draws = Drawn.advance

    def killed(self, states, events):
        raise KeyboardInterrupt

    monkeypatch.setattr(Drawn, "advance", killed)
    with pytest.raises(KeyboardInterrupt):
        sample(*flags)
    assert {"talk.partial.json", "talk.speech.wav"} <= {path.name for path in Path().iterdir()}
    before = len(server.asked)
    monkeypatch.setattr(Drawn, "advance", draws)
    with pytest.raises(
        UserError, match="talk.partial.json: of another video: --tts_text was 'Hi.', not 'Bye.'; give the"
    ):
        sample(*flags, "--tts_text", "Bye.", "--resume", "true")
    record = sample(*flags, "--resume", "true")
    assert record["helpers"]["prompt"] == record["settings"]["prompt"] == "A calm shot. She talks."
    made = Path("talk.mp4").read_bytes()
    sample(*flags, "--resume", "true")  # it is finished: told by its record
    with pytest.raises(UserError, match="talk.json: of another video: --prompt was 'She talks.', not 'She sings.'"):
        sample(*flags, "--resume", "true", prompt="She sings.")
    assert len(server.asked) == before and Path("talk.mp4").read_bytes() == made
    assert not Path("talk.partial.json").exists()
    sample(*flags)  # from the beginning
    assert len(server.asked) > before and Path("talk.mp4").read_bytes() == made


def test_nothing_of_others_is_written_over(sample, server):
    Path("talk.speech.wav").write_bytes(b"mine")
    with pytest.raises(UserError, match="talk.speech.wav: stands where the speech goes; move it away, or give another"):
        sample("--tts_text", "Hi.")
    Path("talk.partial.json").write_bytes(WAV)
    with pytest.raises(UserError, match=r"talk.partial.json: is read too \(--tts_prompt_audio"):
        sample("--tts_text", "Hi.", "--tts_prompt_audio", "talk.partial.json")
    assert Path("talk.speech.wav").read_bytes() == b"mine" and not server.asked
    Path("talk.speech.wav").unlink()
    with locked(Path(".talk.helped.lock"), ""), pytest.raises(UserError, match="talk.mp4: another run is making it"):
        sample("--tts_text", "Hi.")
    sample("--tts_text", "Hi.", "--tts_prompt_audio", str(ROOT / "assets/speech.flac"))
    spoken = server.asked[-1].body
    assert spoken["ref_audio"].startswith("data:audio/wav;base64,UklGR") and "ref_text" not in spoken


def test_a_text_and_a_sound(sample, tmp_path):
    sound = str(ROOT / "assets/speech.flac")
    with pytest.raises(UserError, match="--tts_text is given, and --audio too; give one of them"):
        sample("--tts_text", "Hi.", "--audio", sound)
    (tmp_path / "run.toml").write_text(f'audio = "{sound}"\n')
    assert "helpers" in sample("--tts_text", "Hi.", "--config", "run.toml")  # flags win over the file
    (tmp_path / "run.toml").write_text('tts_text = "Hi."\n')
    assert "helpers" not in sample("--audio", sound, "--config", "run.toml")


@pytest.mark.parametrize(
    "flags, said",
    [
        (("--enable_tts", "true"), "--enable_tts needs --tts_text"),
        (("--tts_prompt_text", "Hi."), "--tts_prompt_text needs --tts_prompt_audio"),
        (("--tts_text", "(s1) Hi. (s2) Hi."), r"--tts_text has words of \(s2\); the model has one speaker"),
        (("--tts_text", "Hi.", "--sample_steps", "0"), "--sample_steps 0: give 1 or more"),
        (("--tts_text", "Hi.", "--tts_prompt_audio", "no.wav"), "no.wav: no such file"),
        (("--prompt_extend_method", "local_qwen"), "start an OpenAI-compatible server and give --prompt_extend_url"),
    ],
)
def test_wishes_that_do_not_go(sample, server, flags, said):
    with pytest.raises(UserError, match=said):
        sample(*flags)
    assert not [each for each in server.asked if each.method == "POST"]


def test_where_no_engine_is(sample):
    with pytest.raises(UserError, match="--tts_text needs an engine; pip install"):
        sample("--tts_text", "Hi.", "--tts_engine", "none", speech=False)
    with pytest.raises(UserError, match="--tts_prompt_audio piper imitates no voices; give --tts_engine openai"):
        sample("--tts_text", "Hi.", "--tts_prompt_audio", str(ROOT / "assets/speech.flac"), speech=False)


def test_two_people(sample, server, monkeypatch):
    """The job of a family of several people: who says nothing has no sound."""
    family = dataclasses.replace(registry.find("multitalk"), load_pipeline=lambda *args, **options: Drawn())
    jobs = []
    monkeypatch.setattr(registry, "find", lambda name: family)
    monkeypatch.setattr(registry, "family_of", lambda weights: "multitalk")
    monkeypatch.setattr("talkverse_jax.run.worker.make_video", lambda pipeline, job, *args, **options: jobs.append(job))
    flags = ("--size_bucket", "multitalk-tiny", "--tts_voice", "ash", "--tts_voice_2", "sage")
    with pytest.raises(FileNotFoundError):  # no record, as no video was made
        sample(*flags, "--tts_text", "(s1) Hi. (s2) Hello.")
    assert [Path(each).name for each in jobs[0].files.audio] == ["talk.speech.wav", "talk.speech_2.wav"]
    assert Path("talk.speech.wav").stat().st_size == Path("talk.speech_2.wav").stat().st_size == 2 * 2 * 24_000 + 44
    spoken = [each.body for each in server.asked if each.path.endswith("/speech")]
    assert [(each["voice"], each["input"]) for each in spoken] == [("ash", "Hi."), ("sage", "Hello.")]
    assert jobs[0].helped["tts_voice"] == ["ash", "sage"] and len(set(jobs[0].helped["sounds"])) == 2
    with pytest.raises(FileNotFoundError):
        sample(*flags, "--tts_text", "(s2) Hello.")
    assert jobs[1].files.audio[0] == "none" and Path(jobs[1].files.audio[1]).name == "talk.speech_2.wav"
    assert jobs[1].helped["sounds"][0] is None and not Path("talk.speech.wav").exists()
