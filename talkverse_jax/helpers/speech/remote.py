"""An OpenAI-compatible endpoint that speaks texts."""

import base64
import functools
import json
import os
import tempfile
from dataclasses import replace
from typing import Any

import numpy as np

from talkverse_jax.core.errors import UserError
from talkverse_jax.helpers.endpoint import Endpoint, key_of
from talkverse_jax.helpers.errors import UpstreamError
from talkverse_jax.helpers.speech.engine import OPENAI_VOICES, Example, Utterance, found_voice, speakable
from talkverse_jax.helpers.speech.options import SpeechOptions
from talkverse_jax.media.audio import open_sound
from talkverse_jax.media.kinds import KINDS
from talkverse_jax.media.walls import Walls

KEY = "TALKVERSE_TTS_API_KEY"

_MOST = 1 << 27  # bytes of a sound: 46 minutes at 24 kHz
_MOST_NAMES = 1 << 20  # bytes of a list of voices
_LIST_SECONDS = 5.0


class RemoteEngine:
    """Asks an endpoint for a wav file."""

    name = "openai"
    instructed = imitates = True

    def __init__(self, options: SpeechOptions):
        assert options.tts_url and options.tts_model  # what SpeechOptions sees to
        self._model, self._given = options.tts_model, options.tts_voice
        key = key_of(os.environ.get(KEY), KEY)
        self._endpoint = Endpoint(options.tts_url.rstrip("/"), key, options.tts_timeout, "tts_url")

    def voices(self) -> tuple[str, ...]:
        names = self._listed or OPENAI_VOICES
        default = self._given or names[0]
        return (default, *(name for name in names if name != default))

    def voice(self, name: str | None) -> str:
        if self._listed is None and name is not None:  # whether it has that one, the endpoint alone can tell
            return name
        voices = self.voices()
        return found_voice(name, voices, voices[0])

    @functools.cached_property
    def _listed(self) -> tuple[str, ...] | None:
        """The endpoint's voices, where it tells: vLLM-Omni and others do, OpenAI does not."""
        try:
            quick = replace(self._endpoint, seconds=min(_LIST_SECONDS, self._endpoint.seconds))
            answer = quick.get("/audio/voices", _MOST_NAMES)
            names = json.loads(answer)["voices"]
        except (UpstreamError, ValueError, LookupError, TypeError, RecursionError):
            return None
        found = [name for name in names if isinstance(name, str) and name] if isinstance(names, list) else []
        return tuple(dict.fromkeys(found)) or None

    def say(
        self,
        text: str,
        voice: str | None = None,
        speed: float = 1.0,
        *,
        instructions: str | None = None,
        example: Example | None = None,
    ) -> Utterance:
        question: dict[str, Any] = {"model": self._model, "input": speakable(text), "response_format": "wav"}
        question["voice"] = self.voice(voice)
        if speed != 1:  # not every model takes it
            question["speed"] = speed
        if instructions is not None:
            question["instructions"] = instructions
        if example is not None:
            question["ref_audio"] = f"data:audio/wav;base64,{base64.b64encode(example.sound).decode()}"
            if example.text is not None:
                question["ref_text"] = example.text
        return self._decoded(self._endpoint.post("/audio/speech", question, _MOST))

    def close(self) -> None:
        pass  # every text has its own connection

    def _decoded(self, answer: bytes) -> Utterance:
        with tempfile.NamedTemporaryFile(suffix=".wav") as file:
            file.write(answer)
            file.flush()
            try:
                sound = open_sound(file.name, walls=Walls(kinds=KINDS["web"]))
                samples = np.concatenate(list(sound.mono(sound.rate)))
            except UserError:  # which would tell of the file's name, and maybe what the endpoint said
                raise UpstreamError(
                    f"{self._endpoint.url}: answered with no sound that can be used; look at its log",
                    field=self._endpoint.field,
                ) from None
        return Utterance(samples, sound.rate)
