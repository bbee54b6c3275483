"""Piper in its process, and what a process can do wrong. Kokoro's package is played by one of our own."""

import os
import signal
import sys
from pathlib import Path

import numpy as np
import pytest

from talkverse_jax.core.errors import UserError
from talkverse_jax.helpers import speech
from talkverse_jax.helpers.errors import UpstreamError, UpstreamTimeout
from talkverse_jax.helpers.speech import SpeechOptions, piper_voices
from talkverse_jax.helpers.speech.engine import Example
from talkverse_jax.helpers.speech.local import LocalEngine

KOKORO = '''
"""Stands for the package of that name."""
import time, os
class KModel:
    def __init__(self, repo_id, config, model):
        self.files = config, model
    def eval(self):
        return self
class _Samples:
    def __init__(self, values): self.values = values
    def detach(self): return self
    def cpu(self): return self
    def numpy(self):
        import numpy as np
        return np.array(self.values)
class _Piece:
    def __init__(self, values): self.audio = values and _Samples(values)
class KPipeline:
    def __init__(self, lang_code, repo_id, model):
        self.lang = lang_code
    def __call__(self, text, voice, speed):
        print("loud")
        if text == "wait": time.sleep(60)
        if text == "die": os._exit(3)
        if text == "raise": raise RuntimeError("my secret")
        yield _Piece(None)
        yield _Piece([0.25, ord(self.lang) / 256, speed / 8])
        yield _Piece([float(os.path.exists(voice))])
'''


@pytest.fixture
def kokoro(tmp_path, monkeypatch):
    """An engine on the stand-in."""
    (tmp_path / "kokoro.py").write_text(KOKORO)
    (tmp_path / "torch.py").write_text("def manual_seed(seed): pass\n")
    weights = tmp_path / "weights"
    for name in ("config.json", "kokoro-v1_0.pth", "voices/af_heart.pt", "voices/am_adam.pt"):
        (weights / name).parent.mkdir(parents=True, exist_ok=True)
        (weights / name).touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    made = speech.open(SpeechOptions(tts_engine="kokoro", tts_model=str(weights), tts_timeout=5.0))
    assert made is not None
    yield made
    made.close()
    sys.modules.pop("kokoro", None)


def test_piper_says_the_same_in_every_process():
    text = "Good morning. How are you?"
    said = []
    for _ in range(2):
        talks = speech.open(SpeechOptions())
        assert talks is not None and talks.name == "piper"
        said.append(talks.say(text))
        quick = talks.say(text, "joe", 2.0)
        talks.close()
    assert said[0].rate == 22050 and 1 < said[0].seconds < 4 and said[0].samples.dtype == np.float32
    assert np.array_equal(said[0].samples, said[1].samples)
    assert 0.4 < quick.seconds / said[0].seconds < 0.65
    assert talks.voices() == ("joe",) and talks.voice(None) == talks.voice("shimmer") == "joe"
    with pytest.raises(UserError, match="--tts_voice 'ann': no such voice; there are joe"):
        talks.voice("ann")
    for text in ("", " \n", "...", "\ud800"):
        with pytest.raises(UserError, match="--tts_text has no words"):
            talks.say(text)
    with pytest.raises(UserError, match="piper: speaks in its own manner only"):
        talks.say("Hello.", example=Example(b""))


def test_a_voice_of_a_file(tmp_path):
    voice = tmp_path / "ann.onnx"
    with pytest.raises(UserError, match=r"ann.onnx: no such file; give the path of a voice"):
        speech.open(SpeechOptions(tts_engine="piper", tts_voice=str(voice)))
    voice.touch()
    Path(f"{voice}.json").touch()
    talks = speech.open(SpeechOptions(tts_voice="joe", tts_voice_2=str(voice)))
    assert talks is not None and talks.voices() == ("joe", "ann")
    talks = speech.open(SpeechOptions(tts_voice=str(voice)))
    assert talks is not None and talks.voices() == ("ann", "joe") and talks.voice(None) == "ann"
    with pytest.raises(UpstreamError, match="piper: cannot speak this text"):  # an empty file
        talks.say("Hello.")
    talks.close()


def test_where_piper_is_not_installed(monkeypatch):
    monkeypatch.setattr(piper_voices.importlib.util, "find_spec", lambda name: None)
    assert speech.open(SpeechOptions()) is None and speech.open(SpeechOptions(tts_engine="none")) is None
    with pytest.raises(UserError, match=r"--tts_engine piper: is not installed; pip install talkverse_jax\[speech\]"):
        speech.open(SpeechOptions(tts_engine="piper"))


def test_kokoro_has_the_voices_of_its_folder(kokoro):
    assert kokoro.voices() == ("af_heart", "am_adam")
    made = kokoro.say("Hello.", "am_adam", 2.0)
    assert made.rate == 24_000 and made.samples.tolist() == [0.25, ord("a") / 256, 0.25, 1.0]


def test_a_process_that_fails_is_started_again(kokoro):
    with pytest.raises(UpstreamError, match=r"kokoro: cannot speak this text \(RuntimeError\)") as error:
        kokoro.say("raise")
    assert "secret" not in str(error.value)
    with pytest.raises(UpstreamError, match="kokoro: ended"):
        kokoro.say("die")
    assert len(kokoro.say("Hello.").samples) == 4
    assert kokoro._process is not None
    os.kill(kokoro._process.pid, signal.SIGKILL)
    kokoro._process.wait()
    assert len(kokoro.say("Hello.").samples) == 4


def test_a_process_that_takes_too_long(kokoro):
    kokoro.say("Hello.")
    kokoro._seconds = 0.2
    with pytest.raises(UpstreamTimeout, match="took more than 0.2 s for a sentence"):
        kokoro.say("wait")
    assert kokoro._process is None


def test_kokoro_without_weights(kokoro, tmp_path):
    with pytest.raises(UserError, match="kokoro: needs its weights; hf download hexgrad/Kokoro-82M"):
        speech.open(SpeechOptions(tts_engine="kokoro", tts_model=str(tmp_path)))


def test_a_process_ends_with_its_input():
    talks = LocalEngine("piper", {"joe": ""}, 5.0)
    process = talks._started()
    assert process.stdin
    process.stdin.close()
    assert process.wait(5) == 0
    talks.close()


@pytest.mark.parametrize(
    "options, said",
    [
        ({"tts_engine": "openai"}, "--tts_engine openai: needs --tts_url"),
        ({"tts_url": "http://a/v1"}, "--tts_url is of another engine; give --tts_engine openai"),
        ({"tts_model": "a"}, "--tts_model is of another engine"),
        ({"tts_speed": 5.0}, "--tts_speed 5.0: give 0.25 to 4"),
        ({"tts_timeout": 0.0}, "--tts_timeout 0.0: give seconds above 0"),
    ],
)
def test_options_that_do_not_go(options, said):
    with pytest.raises(UserError, match=said):
        SpeechOptions(**options)
