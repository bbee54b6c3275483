"""A prompt and a picture become a better prompt: one call to an OpenAI-compatible endpoint.

Shapes: H W a picture's rows and columns.
"""

import base64
import io
import json
import os
import unicodedata
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from talkverse_jax.core.text import is_text
from talkverse_jax.helpers.endpoint import Endpoint, key_of
from talkverse_jax.helpers.errors import UpstreamError
from talkverse_jax.helpers.prompt.instruction import digest, instruction
from talkverse_jax.helpers.prompt.options import PromptOptions, TargetLang
from talkverse_jax.helpers.prompt.picture import scaled

KEY = "TALKVERSE_PROMPT_EXTEND_API_KEY"

_LONGEST = 4000  # characters of a prompt that is taken
_MOST = 1 << 20  # bytes of an answer
_TOKENS = 512
_QUALITY = 90  # of the JPEG


@dataclass(frozen=True)
class Enhanced:
    """A prompt as it was improved.

    Attributes:
      model: that did it.
      lang: it is in.
      instruction: the digest of what the model was told.
    """

    prompt: str
    model: str
    lang: TargetLang
    instruction: str


class Enhancer:
    """Improves prompts; may be called from several threads.

    Attributes:
      model: that is asked.
    """

    def __init__(self, options: PromptOptions):
        assert options.prompt_extend_url and options.prompt_extend_model  # what PromptOptions sees to
        self.model = options.prompt_extend_model
        self._lang: TargetLang = options.prompt_extend_target_lang
        url, key = options.prompt_extend_url.rstrip("/"), key_of(os.environ.get(KEY), KEY)
        self._endpoint = Endpoint(url, key, options.prompt_extend_timeout, "prompt_extend_url")

    def enhance(
        self, prompt: str, picture: UInt8[np.ndarray, "H W 3"] | None = None, lang: TargetLang | None = None
    ) -> Enhanced:
        """Improve a prompt.

        Args:
          picture: what the person and the place look like; scaled to at most 768 pixels a side.
          lang: of the answer; by default that of the options.

        Raises:
          UpstreamTimeout: no answer came in time.
          UpstreamError: none came, or none that can be used.
        """
        made_in = lang or self._lang
        content: list[dict[str, Any]] = [{"type": "text", "text": prompt}]
        if picture is not None:
            content.append({"type": "image_url", "image_url": {"url": _data_url(picture)}})
        question = {
            "model": self.model,
            "messages": [
                {"role": "system", "content": instruction(made_in)},
                {"role": "user", "content": content},
            ],
            "temperature": 0,
            "max_tokens": _TOKENS,
            "stream": False,
        }
        answer = self._endpoint.post("/chat/completions", question, _MOST)
        better = _said(answer)
        if better is None:
            raise UpstreamError(
                f"{self._endpoint.url}: answered with no prompt that can be used; look at its log, or take another "
                "--prompt_extend_model",
                field=self._endpoint.field,
            )
        return Enhanced(better, self.model, made_in, digest(made_in))


def _said(answer: bytes) -> str | None:
    """The prompt in an answer; None where it is cut short, empty, too long, or no answer."""
    try:
        choice = json.loads(answer)["choices"][0]
        text, ended = choice["message"]["content"], choice["finish_reason"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return None
    if ended != "stop" or not isinstance(text, str) or not is_text(text):
        return None
    text = "".join(" " if unicodedata.category(letter) == "Cc" else letter for letter in text).strip()
    return text if 1 <= len(text) <= _LONGEST else None


def _data_url(picture: UInt8[np.ndarray, "H W 3"]) -> str:
    file = io.BytesIO()
    Image.fromarray(scaled(picture)).save(file, "JPEG", quality=_QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getbuffer()).decode()}"
