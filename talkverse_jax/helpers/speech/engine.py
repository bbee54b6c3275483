"""What every engine that speaks texts can do. Imports no JAX.

Shapes: n samples.
"""

import unicodedata
from collections.abc import Collection
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from jaxtyping import Float32

from talkverse_jax.core.errors import UserError, brief
from talkverse_jax.core.text import is_text

# OpenAI's voices, which programs written for it ask for: they mean the default voice.
OPENAI_VOICES = (
    "alloy",
    "ash",
    "ballad",
    "cedar",
    "coral",
    "echo",
    "fable",
    "marin",
    "nova",
    "onyx",
    "sage",
    "shimmer",
    "verse",
)


@dataclass(frozen=True, eq=False)
class Utterance:
    """A text as it was spoken.

    Attributes:
      samples: mono, in [-1, 1].
      rate: in Hz.
    """

    samples: Float32[np.ndarray, " n"]
    rate: int

    @property
    def seconds(self) -> float:
        """How long it is."""
        return len(self.samples) / self.rate


@dataclass(frozen=True)
class Example:
    """A recording whose voice is to be imitated.

    Attributes:
      sound: a wav file.
      text: what is said in it, where that is known.
    """

    sound: bytes
    text: str | None = None


class Engine(Protocol):
    """Speaks texts, one after the other; may be called from several threads.

    Attributes:
      name: of the engine, as `--tts_engine` has it.
      instructed: whether it takes instructions on the manner.
      imitates: whether it takes an example of a voice.
    """

    name: str
    instructed: bool
    imitates: bool

    def voices(self) -> tuple[str, ...]:
        """Names of its voices, the default one first."""
        ...

    def voice(self, name: str | None) -> str:
        """The voice that speaks where that one is asked for: the default where none is, or one of OpenAI's names that
        the engine does not have.

        Raises:
          UserError: there is no such voice.
        """
        ...

    def say(
        self,
        text: str,
        voice: str | None = None,
        speed: float = 1.0,
        *,
        instructions: str | None = None,
        example: Example | None = None,
    ) -> Utterance:
        """Speak a text.

        Args:
          speed: 0.25 to 4.
          instructions, example: only where the engine takes them.

        Raises:
          UserError: there is no such voice, or nothing in the text can be spoken.
          UpstreamError: the engine gave no sound, or not in time.
        """
        ...

    def close(self) -> None:
        """End what the engine has started."""
        ...


def found_voice(name: str | None, voices: Collection[str], default: str) -> str:
    """As `Engine.voice`, of an engine with a table of voices."""
    if name is None or name in OPENAI_VOICES and name not in voices:
        return default
    if name not in voices:
        raise UserError(f"{brief(name)}: no such voice; there are {', '.join(sorted(voices))}", field="tts_voice")
    return name


def speakable(text: str) -> str:
    """The text on one line, without characters that nobody sees.

    Raises:
      UserError: nothing is left that could be spoken.
    """
    shown = "".join(" " if unicodedata.category(letter) == "Cc" else letter for letter in text)
    if not is_text(text) or not any(letter.isalnum() for letter in shown):
        raise UserError("has no words to speak; give a text", field="tts_text")
    return " ".join(shown.split())
