"""The helpers, as requests use them: a better prompt, and speech in place of a sound."""

import asyncio
import base64
import math
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

from talkverse_jax.core.errors import UserError
from talkverse_jax.helpers.errors import UpstreamError, UpstreamTimeout
from talkverse_jax.serve.http.aside import Aside
from talkverse_jax.serve.http.errors import Fault, refused_option
from talkverse_jax.serve.http.inputs import Looker
from talkverse_jax.serve.http.setup import Setup

T = TypeVar("T")

_AT_ONCE = 8


async def helped(work: Awaitable[T], what: str, names: dict[str, str]) -> T:
    """What a helper made.

    Args:
      what: it makes, for messages, which tell nothing that an endpoint said.
      names: fields by option.

    Raises:
      Fault: it made nothing.
    """
    try:
        return await work
    except UpstreamTimeout:
        raise Fault("upstream_timeout", f"{what} took too long; try again later") from None
    except UpstreamError:
        raise Fault("upstream_error", f"{what} failed; try again later") from None
    except UserError as error:
        raise refused_option(error, names) from None


class RequestHelpers:
    """The helpers of a server."""

    def __init__(self, setup: Setup, looker: Looker):
        self._setup, self._looker, self._aside = setup, looker, Aside(_AT_ONCE)

    async def enhance(
        self, prompt: str, folder: Path, name: str | None, lang: str | None = None, param: str = "input_reference"
    ) -> Any:
        """A better prompt, by the picture of that name in the folder.

        Args:
          param: the picture's field.

        Raises:
          Fault: the picture cannot be read, or there is no prompt.
        """
        enhancer, picture = self._setup.enhancer, None
        if enhancer is None:
            raise Fault("not_enabled", "prompts are not improved here (--prompt_extend_url)")
        if name is not None:
            shown = await self._looker.look(folder, name, param, "shown")
            picture = await asyncio.to_thread(_pixels, shown)
        work = self._aside.run(enhancer.enhance, prompt, picture, lang)
        return await helped(work, "improving the prompt", {})

    async def speak(
        self, text: str, voices: list[str | None], speed: float, most: int, names: dict[str, str]
    ) -> list[bytes | None]:
        """A sound as wav for each of those who speak; None of one who says nothing.

        Args:
          most: people there can be.

        Raises:
          Fault: there is no such voice, no speech, or too much.
        """
        from talkverse_jax.helpers.speech.dialogue import speak
        from talkverse_jax.helpers.speech.formats import encode

        engine = self._setup.engine
        assert engine is not None, "fields of speech are refused without one"

        def made() -> list[bytes | None]:
            spoken = speak(engine, text, voices, speed, most=most)
            if any(each and each.seconds > self._setup.options.max_sound_seconds for each in spoken):
                raise _too_long(self._setup)
            return [each and encode(each, "wav") for each in spoken]

        return await helped(self._aside.run(made), "making speech", names)

    async def say(self, work: Callable[[], T]) -> T:
        """What an engine makes, in a thread.

        Raises:
          Fault: it made nothing.
        """
        names = {"tts_voice": "voice", "tts_text": "input", "tts_speed": "speed"}
        return await helped(self._aside.run(work), "making speech", names)


def _too_long(setup: Setup) -> Fault:
    most = setup.options.max_sound_seconds
    return Fault("sound_too_long", f"tts_text: makes more than {most:g} s of speech; give a shorter text", "tts_text")


def _pixels(shown: dict[str, Any]) -> Any:
    import numpy as np

    shape = shown["shape"]
    pixels = np.frombuffer(base64.b64decode(shown["pixels"]), np.uint8)
    if len(shape) != 3 or math.prod(shape) != len(pixels):
        raise Fault("unreadable_media", "input_reference: could not be read; save it again", "input_reference")
    return pixels.reshape(shape)
