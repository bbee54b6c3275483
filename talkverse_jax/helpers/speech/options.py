"""Who speaks texts, and how. Imports no JAX."""

import dataclasses
import math
from typing import Literal

from talkverse_jax.core.errors import UserError
from talkverse_jax.core.options import option
from talkverse_jax.helpers.address import check_base_url

EngineName = Literal["auto", "piper", "kokoro", "openai", "none"]
SLOWEST, FASTEST = 0.25, 4.0


@dataclasses.dataclass(frozen=True)
class SpeechOptions:
    """An engine that speaks texts; the key of an endpoint comes from `remote.KEY`."""

    tts_engine: EngineName = option(
        "what speaks texts: piper (extra `speech`), kokoro (a package and weights of yours), openai (an "
        "OpenAI-compatible server); auto: piper where it is installed, else none",
        group="speech",
        default="auto",
    )
    tts_voice: str | None = option(
        "voice, by its name; of piper also a voice's file (.onnx)", group="speech", metavar="NAME", default=None
    )
    tts_voice_2: str | None = option(
        "voice of the second of two speakers, whose words stand behind (s2)",
        group="speech",
        metavar="NAME",
        default=None,
    )
    tts_speed: float = option("how fast texts are spoken, 0.25 to 4", group="speech", metavar="X", default=1.0)
    tts_url: str | None = option(
        "of openai: the server's address, up to /v1; its key is taken from TALKVERSE_TTS_API_KEY",
        group="speech",
        metavar="URL",
        default=None,
    )
    tts_model: str | None = option(
        "of openai: the server's model; of kokoro: the folder of its weights",
        group="speech",
        metavar="NAME",
        default=None,
    )
    tts_timeout: float = option(
        "seconds for a server's answer, or for a sentence of another engine", group="speech", metavar="S", default=120
    )

    def __post_init__(self):
        if not SLOWEST <= self.tts_speed <= FASTEST:
            raise UserError(f"{self.tts_speed}: give {SLOWEST} to {FASTEST:g}", field="tts_speed")
        if not 0 < self.tts_timeout < math.inf:
            raise UserError(f"{self.tts_timeout}: give seconds above 0", field="tts_timeout")
        if self.tts_engine == "openai":
            for name, what in (("tts_url", "the server to ask"), ("tts_model", "the model to ask")):
                if not getattr(self, name):
                    raise UserError(f"openai: needs --{name}, {what}", field="tts_engine")
        elif self.tts_url is not None:
            raise UserError("is of another engine; give --tts_engine openai", field="tts_url")
        elif self.tts_model is not None and self.tts_engine != "kokoro":
            raise UserError("is of another engine; give --tts_engine openai or kokoro", field="tts_model")
        if self.tts_url is not None:
            check_base_url(self.tts_url, "tts_url")
