"""Speech from text.

    engine = speech.open(SpeechOptions())
    utterance = engine.say("Good morning.", engine.voice(None))

Imports no JAX, and an engine's packages not before it is opened.
"""

from typing import TYPE_CHECKING

from talkverse_jax.helpers.speech.options import SpeechOptions

if TYPE_CHECKING:  # NumPy would cost help 0.1 s
    from talkverse_jax.helpers.speech.engine import Engine


def open(options: SpeechOptions) -> "Engine | None":
    """The engine that the options name; None where there is none. Its process starts with the first text.

    Raises:
      UserError: it is not installed, or its weights or voices are missing.
    """
    if options.tts_engine == "none":
        return None
    if options.tts_engine == "openai":
        from talkverse_jax.helpers.speech.remote import RemoteEngine

        return RemoteEngine(options)
    from talkverse_jax.helpers.speech import kokoro_voices, piper_voices
    from talkverse_jax.helpers.speech.local import LocalEngine

    if options.tts_engine == "kokoro":
        return LocalEngine("kokoro", kokoro_voices.voices(options), options.tts_timeout)
    if options.tts_engine == "auto" and not piper_voices.installed():
        return None
    return LocalEngine("piper", piper_voices.voices(options), options.tts_timeout)


__all__ = ["SpeechOptions", "open"]
