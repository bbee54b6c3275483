"""The routes of the helpers: a better prompt, speech from text, voices."""

import time
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from talkverse_jax.serve.http.errors import Fault, said
from talkverse_jax.serve.http.field_table import LONGEST_PROMPT, LONGEST_SPEECH, Field
from talkverse_jax.serve.http.forms import JSON
from talkverse_jax.serve.http.helping import RequestHelpers
from talkverse_jax.serve.http.inputs import Looker, WantedFile
from talkverse_jax.serve.http.router import Handler
from talkverse_jax.serve.http.scratch import checked, scratch_form
from talkverse_jax.serve.http.setup import Setup
from talkverse_jax.serve.http.video_routes import NO_STORE

if TYPE_CHECKING:
    from talkverse_jax.helpers.speech.engine import Engine

_ENHANCE = (
    Field("prompt", "string", least=0, most=LONGEST_PROMPT),
    Field("input_reference", "reference"),
    Field("target_lang", "string"),
)
_LANGS = {"target_lang": ("en", "zh")}
_SPEECH = (
    Field("input", "string", least=1, most=LONGEST_SPEECH),
    Field("model", "string"),
    Field("voice", "reference"),  # a name, or an object with one
    Field("response_format", "string"),
    Field("speed", "number", least=0.25, most=4),
    Field("stream_format", "string"),
    Field("instructions", "string", least=0, most=LONGEST_SPEECH),
)
_OPENAI_MODELS = ("tts-1", "tts-1-hd", "gpt-4o-mini-tts")


class HelperRoutes:
    """The routes of the helpers."""

    def __init__(self, setup: Setup, looker: Looker, helpers: RequestHelpers):
        self._setup, self._looker, self._helpers = setup, looker, helpers

    def table(self) -> dict[str, dict[str, Handler]]:
        return {
            "/v1/prompts/enhance": {"POST": Handler(self._enhance, makes=True)},
            "/v1/audio/speech": {"POST": Handler(self._speech, makes=True)},
            "/v1/audio/voices": {"GET": Handler(self._voices)},
        }

    async def _enhance(self, request: Request) -> Response:
        if self._setup.enhancer is None:
            raise Fault("not_enabled", "prompts are not improved here (--prompt_extend_url)")
        async with scratch_form(self._setup, request) as (form, folder):
            values, name = checked(form, _ENHANCE, _LANGS, "prompt"), None
            if "input_reference" in values:
                given = WantedFile("image", values["input_reference"], "input_reference", ("picture", "film"))
                await self._looker.take(given, folder)
                name = "image"
            lang = values.get("target_lang")
            better = await self._helpers.enhance(values["prompt"], folder, name, lang)
        told = {"object": "prompt.enhancement", "prompt": better.prompt, "original_prompt": values["prompt"]}
        told |= {"model": better.model, "target_lang": better.lang, "created_at": int(time.time())}
        return JSONResponse(told, headers=NO_STORE)

    def _engine(self) -> "Engine":
        if self._setup.engine is None:
            raise Fault("not_enabled", "no speech is made here (--tts_engine)")
        return self._setup.engine

    async def _voices(self, request: Request) -> Response:
        voices = await self._helpers.say(self._engine().voices)
        return JSONResponse({"voices": list(voices), "uploaded_voices": []}, headers=NO_STORE)

    async def _speech(self, request: Request) -> Response:
        engine = self._engine()
        from talkverse_jax.helpers.speech.formats import FORMATS

        choices = {"response_format": tuple(FORMATS), "stream_format": ("audio",)}
        async with scratch_form(self._setup, request, JSON) as (form, _):
            values = checked(form, _SPEECH, choices, "input")
        name = _voice(values.get("voice"))
        if values.get("model", engine.name) not in (engine.name, *_OPENAI_MODELS):
            raise Fault("model_not_found", f"there is no such model; give {engine.name}", "model")
        if values.get("instructions") and not engine.instructed:
            raise Fault("unsupported_parameter", f"instructions: {engine.name} takes none", "instructions")
        voice, content, kind = await self._helpers.say(lambda: self._said(engine, values, name))
        return Response(content, headers=NO_STORE | {"X-Voice": _header(voice)}, media_type=kind)

    def _said(self, engine: "Engine", values: dict[str, Any], name: str | None) -> tuple[str, bytes, str]:
        """Voice, bytes and media type; in a thread."""
        from talkverse_jax.helpers.speech.formats import FORMATS, encode

        form = values.get("response_format", "mp3")
        more = {"instructions": values["instructions"]} if values.get("instructions") else {}
        voice = engine.voice(name)
        spoken = engine.say(values["input"], voice, values.get("speed", 1.0), **more)
        if spoken.seconds > (most := self._setup.options.max_sound_seconds):
            raise Fault("sound_too_long", f"input: makes more than {most:g} s of speech; give less", "input")
        return voice, encode(spoken, form), FORMATS[form].media_type


def _voice(given: Any) -> str | None:
    if isinstance(given, dict):
        if given.keys() != {"id"}:
            raise Fault("invalid_value", 'voice: give a name, or {"id": NAME}', "voice")
        given = given["id"]
    if given is not None and not isinstance(given, str):
        raise Fault("invalid_type", "voice: give a name", "voice")
    if given is not None and not 1 <= len(given) <= 256:
        raise Fault("invalid_value", f"voice: {said(given)}: give a name", "voice")
    return given


def _header(text: str) -> str:
    """A voice's name as a header can have it."""
    return text.encode("ascii", "replace").decode()
