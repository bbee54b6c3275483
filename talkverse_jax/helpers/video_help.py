"""What a video wants of the helpers, and what they make of it. Imports no JAX."""

import dataclasses
import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from talkverse_jax.core.errors import UserError
from talkverse_jax.core.files import open_regular
from talkverse_jax.helpers import prompt as prompts
from talkverse_jax.helpers import speech
from talkverse_jax.helpers.options import HelpOptions
from talkverse_jax.helpers.prompt.options import PromptOptions
from talkverse_jax.helpers.speech.dialogue import speak
from talkverse_jax.helpers.speech.engine import Engine, Example, Utterance
from talkverse_jax.helpers.speech.formats import encode
from talkverse_jax.helpers.speech.options import SpeechOptions
from talkverse_jax.media.audio import open_sound
from talkverse_jax.media.walls import Walls

_LONGEST_EXAMPLE = 60  # seconds


@dataclasses.dataclass(frozen=True)
class Wish:
    """What one video wants.

    Attributes:
      picture, prompt: as they were given.
      people: most that can speak.
    """

    picture: str
    prompt: str
    people: int
    prompts: PromptOptions
    help: HelpOptions
    speech: SpeechOptions

    @property
    def anything(self) -> bool:
        """Whether it wants help at all."""
        return self.help.use_prompt_extend or self.help.tts_text is not None

    @property
    def told(self) -> dict[str, Any]:
        """All that decides what is made, by the names of the options: where it is the same, nothing is made anew."""
        groups: list[tuple[Any, tuple[str, ...]]] = []
        if self.help.use_prompt_extend:
            groups += [(self, ("prompt",)), (self.help, ("use_prompt_extend",))]
            groups += [(self.prompts, ("prompt_extend_model", "prompt_extend_target_lang"))]
        if self.help.tts_text is not None:
            groups += [(self.help, ("tts_text", "tts_prompt_text"))]
            groups += [(self.speech, ("tts_engine", "tts_voice", "tts_voice_2", "tts_speed", "tts_model"))]
        found = {name: getattr(group, name) for group, names in groups for name in names}
        if self.help.tts_prompt_audio is not None:
            with open_regular(self.help.tts_prompt_audio, "a recording of a voice") as file:
                found["tts_prompt_audio"] = hashlib.file_digest(file, "sha256").hexdigest()
        return {name: value for name, value in found.items() if value is not None}


@dataclasses.dataclass(frozen=True)
class Helped:
    """What was made.

    Attributes:
      note: how, as JSON holds it; `asked` in it is what was wanted (`Wish.told`).
      sounds: wav files of those who speak, in their order; None of one who says nothing.
    """

    note: dict[str, Any]
    sounds: tuple[bytes | None, ...]


class VideoHelp:
    """The helpers of a command, each opened when it is first needed; those that are open end with the block."""

    def __init__(self, walls: Walls, say: Callable[[str], None] = lambda line: None):
        """
        Args:
          walls: what is let in of pictures and recordings.
          say: is told what was made.
        """
        self._walls, self._say = walls, say
        self._engine: Engine | None = None
        self._opened: SpeechOptions | None = None

    def __enter__(self) -> "VideoHelp":
        return self

    def __exit__(self, *_: Any) -> None:
        if self._engine is not None:
            self._engine.close()
        self._engine = None

    def help(self, wanted: Wish) -> Helped:
        """Improve the prompt, then speak the text, whichever is wanted.

        Raises:
          UserError: a helper is missing, or what it is given cannot be used.
          UpstreamError: it failed.
        """
        note: dict[str, Any] = {"asked": wanted.told}
        if wanted.help.use_prompt_extend:
            note |= self._improved(wanted)
        if wanted.help.tts_text is None:
            return Helped(note, ())
        made, sounds = self._spoken(wanted, wanted.help.tts_text)
        return Helped(note | made, sounds)

    def _improved(self, wanted: Wish) -> dict[str, Any]:
        enhancer = prompts.open(wanted.prompts)
        if enhancer is None:
            raise UserError("needs --prompt_extend_url and --prompt_extend_model", field="use_prompt_extend")
        made = enhancer.enhance(wanted.prompt, prompts.read_picture(wanted.picture, self._walls))
        self._say(f"prompt, improved by {made.model}: {made.prompt}")
        return {
            "prompt": made.prompt,
            "original_prompt": wanted.prompt,
            "prompt_extend_model": made.model,
            "prompt_extend_target_lang": made.lang,
            "prompt_extend_instruction": made.instruction,
        }

    def _spoken(self, wanted: Wish, text: str) -> tuple[dict[str, Any], tuple[bytes | None, ...]]:
        engine = self._engine_of(wanted.speech)
        names = [given and _name(given) for given in (wanted.speech.tts_voice, wanted.speech.tts_voice_2)]
        voices = [engine.voice(name) for name in names] + [engine.voice(None)] * max(0, wanted.people - 2)
        speed = wanted.speech.tts_speed
        said = speak(engine, text, voices, speed, most=wanted.people, example=self._example(wanted.help, engine))
        sounds = tuple(each and encode(each, "wav") for each in said)
        heard = [voice for voice, each in zip(voices, said) if each]
        seconds = next(each.seconds for each in said if each)
        self._say(f"text, spoken by {engine.name} ({', '.join(heard)}): {seconds:.2f} s")
        note = {
            "tts_engine": engine.name,
            "tts_voice": heard[0] if len(said) == 1 else [voice for voice, _ in zip(voices, said)],
            "tts_speed": speed,
            "tts_text": text,
            "sounds": [sound and hashlib.sha256(sound).hexdigest() for sound in sounds],
        }
        return note, sounds

    def _engine_of(self, options: SpeechOptions) -> Engine:
        """The engine; another one where other files of voices are named."""
        files = {name: _file(getattr(options, name)) for name in ("tts_voice", "tts_voice_2")}
        key = dataclasses.replace(options, **files, tts_speed=1.0)
        if self._engine is None or key != self._opened:
            self.__exit__()
            self._engine, self._opened = speech.open(key), key
        if self._engine is None:
            raise UserError(
                "needs an engine; pip install talkverse_jax[speech], or give --tts_engine openai and its --tts_url",
                field="tts_text",
            )
        return self._engine

    def _example(self, options: HelpOptions, engine: Engine) -> Example | None:
        path = options.tts_prompt_audio
        if path is None:
            return None
        if not engine.imitates:
            raise UserError(f"{engine.name} imitates no voices; give --tts_engine openai", field="tts_prompt_audio")
        sound = open_sound(path, walls=self._walls)
        if sound.duration > _LONGEST_EXAMPLE:
            raise UserError(
                f"{path}: {sound.duration:.0f} s long; give 5 to 15 s of one voice", field="tts_prompt_audio"
            )
        samples = np.concatenate(list(sound.mono(sound.rate)))
        return Example(encode(Utterance(samples, sound.rate), "wav"), options.tts_prompt_text)


def differing(asked: Mapping[str, Any], before: Mapping[str, Any]) -> str | None:
    """What of two videos' wishes (`Wish.told`) is different, for people: `--tts_text was 'a', not 'b'`."""
    for name in sorted(asked.keys() | before.keys()):
        if (was := before.get(name)) != (now := asked.get(name)):
            known = name != "tts_prompt_audio"
            return f"--{name} was {was!r}, not {now!r}" if known else f"--{name} was another"
    return None


def _file(voice: str | None) -> str | None:
    return voice if voice and voice.endswith(".onnx") else None


def _name(voice: str) -> str:
    return Path(voice).stem if _file(voice) else voice
