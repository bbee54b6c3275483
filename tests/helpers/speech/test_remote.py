"""Speech of an OpenAI-compatible endpoint."""

import base64
import json

import numpy as np
import pytest

from talkverse_jax.core.errors import UserError
from talkverse_jax.helpers import speech
from talkverse_jax.helpers.errors import UpstreamError, UpstreamTimeout
from talkverse_jax.helpers.speech import SpeechOptions
from talkverse_jax.helpers.speech.engine import OPENAI_VOICES, Example, Utterance
from talkverse_jax.helpers.speech.formats import encode
from tests.helpers.stub import Answer, stub

RATE = 24_000
TONE = (0.5 * np.sin(np.arange(RATE) * 0.1)).astype(np.float32)
WAV = encode(Utterance(TONE, RATE), "wav")


def spoken(asked):
    return Answer(WAV) if asked.path == "/v1/audio/speech" else Answer(status=404)


def engine(url, **options):
    found = speech.open(SpeechOptions(tts_engine="openai", tts_url=url, tts_model="talker", **options))
    assert found is not None
    return found


def test_the_call(monkeypatch):
    monkeypatch.setenv("TALKVERSE_TTS_API_KEY", "secret")
    with stub(spoken) as server:
        made = engine(server.url).say("Good\nmorning.")
        engine(server.url).say("Hi", "echo", 1.5, instructions="calm", example=Example(b"RIFF", "Hello."))
    asked = [each for each in server.asked if each.method == "POST"]
    assert {each.headers["Authorization"] for each in server.asked} == {"Bearer secret"}
    assert asked[0].body == {"model": "talker", "input": "Good morning.", "response_format": "wav", "voice": "alloy"}
    example = {"ref_audio": f"data:audio/wav;base64,{base64.b64encode(b'RIFF').decode()}", "ref_text": "Hello."}
    more = {"voice": "echo", "speed": 1.5, "instructions": "calm"} | example
    assert asked[1].body == {"model": "talker", "input": "Hi", "response_format": "wav"} | more
    assert made.rate == RATE and np.abs(made.samples - TONE).max() < 1e-4


def test_its_voices_where_it_tells():
    names = json.dumps({"voices": ["anna", "ben"]}).encode()
    with stub(lambda asked: Answer(names)) as server:
        talks = engine(server.url)
        assert talks.voices() == ("anna", "ben") and talks.voice("alloy") == talks.voice(None) == "anna"
        assert engine(server.url, tts_voice="ben").voices() == ("ben", "anna")
        with pytest.raises(UserError, match="--tts_voice 'carl': no such voice; there are anna, ben"):
            talks.voice("carl")
        assert len(server.asked) == 2  # once each
    with stub(lambda asked: Answer(status=404)) as server:
        assert engine(server.url).voices() == OPENAI_VOICES and engine(server.url).voice("carl") == "carl"


@pytest.mark.parametrize("body", [b"", b"my secret", WAV[:40], b"#EXTM3U\n/etc/passwd"])
def test_what_is_no_sound(body):
    with stub(lambda asked: Answer(body)) as server:
        with pytest.raises(UpstreamError, match="no sound that can be used") as error:
            engine(server.url).say("Hello.")
        assert "secret" not in str(error.value) and "/tmp" not in str(error.value)


def test_a_slow_one():
    with stub(lambda asked: Answer(WAV, drip=0.1)) as server, pytest.raises(UpstreamTimeout):
        engine(server.url, tts_timeout=0.3).say("Hello.", "echo")
