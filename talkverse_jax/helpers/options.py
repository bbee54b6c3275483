"""Which help a video wants. Imports no JAX."""

import dataclasses

from talkverse_jax.core.errors import UserError
from talkverse_jax.core.options import option
from talkverse_jax.helpers.prompt.options import PromptOptions
from talkverse_jax.helpers.speech.options import SpeechOptions


@dataclasses.dataclass(frozen=True)
class HelpOptions:
    """A better prompt, and speech in place of a sound."""

    use_prompt_extend: bool = option(
        "improve the prompt first, by the model of --prompt_extend_url, which sees the picture",
        group="prompt",
        default=False,
    )
    tts_text: str | None = option(
        "text to speak in place of --audio; of two people, for models with two: (s1) words (s2) words",
        group="speech",
        metavar="TEXT",
        default=None,
    )
    enable_tts: bool = option("speak --tts_text, which alone means this too", group="speech", default=False)
    tts_prompt_audio: str | None = option(
        "of openai: a recording whose voice is to be imitated (5 to 15 s)", group="speech", metavar="FILE", default=None
    )
    tts_prompt_text: str | None = option(
        "what is said in --tts_prompt_audio", group="speech", metavar="TEXT", default=None
    )

    def __post_init__(self):
        if self.enable_tts and not self.tts_text:
            raise UserError("needs --tts_text, what to say", field="enable_tts")
        if self.tts_text is not None and not self.tts_text.strip():
            raise UserError("has no words to speak; give a text, or leave it out", field="tts_text")
        if self.tts_prompt_audio is not None and self.tts_text is None:
            raise UserError("needs --tts_text, what to say in that voice", field="tts_prompt_audio")
        if self.tts_prompt_text is not None and self.tts_prompt_audio is None:
            raise UserError("needs --tts_prompt_audio, where it is said", field="tts_prompt_text")


# All that a command can be told of help, and what each video of a list may want otherwise.
GROUPS = {"prompts": PromptOptions, "help": HelpOptions, "speech": SpeechOptions}
OF_A_VIDEO = ("use_prompt_extend", "enable_tts", "tts_text", "tts_voice", "tts_voice_2", "tts_speed")
