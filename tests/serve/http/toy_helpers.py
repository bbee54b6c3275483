"""An engine of speech and an enhancer of prompts, for tests."""

from talkverse_jax.helpers.errors import UpstreamError, UpstreamTimeout
from talkverse_jax.helpers.prompt.enhancer import Enhanced
from talkverse_jax.helpers.speech.engine import Utterance, found_voice
from tests.sounds import tone


class ToyEngine:
    """Peeps: a tenth of a second for each character."""

    name, instructed, imitates = "toy", False, False

    def voices(self):
        return ("anna", "bert")

    def voice(self, name):
        return found_voice(name, self.voices(), "anna")

    def say(self, text, voice=None, speed=1.0, *, instructions=None, example=None):
        if text == "fail":
            raise UpstreamError("toy: said: secret words")
        self.voice(voice)
        return Utterance(tone(len(text) / 10 / speed, 16000), 16000)

    def close(self):
        pass


class ToyEnhancer:
    """Says what it was given."""

    model = "toy-vl"

    def enhance(self, prompt, picture=None, lang=None):
        if prompt == "late":
            raise UpstreamTimeout("http://there: secret words")
        if prompt == "fail":
            raise UpstreamError("http://there: secret words")
        shape = None if picture is None else picture.shape
        return Enhanced(f"better {prompt} {shape}", self.model, lang or "en", "0123456789ab")
