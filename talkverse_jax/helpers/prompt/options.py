"""Who improves prompts, and in which language. Imports no JAX."""

import dataclasses
import math
from typing import Literal

from talkverse_jax.core.errors import UserError
from talkverse_jax.core.options import option
from talkverse_jax.helpers.address import check_base_url

TargetLang = Literal["en", "zh"]


@dataclasses.dataclass(frozen=True)
class PromptOptions:
    """An OpenAI-compatible endpoint that improves prompts; its key comes from `enhancer.KEY`."""

    prompt_extend_url: str | None = option(
        "address, up to /v1, of an OpenAI-compatible server that improves prompts; its key is taken from "
        "TALKVERSE_PROMPT_EXTEND_API_KEY",
        group="prompt",
        metavar="URL",
        default=None,
    )
    prompt_extend_model: str | None = option(
        "its model, which should understand pictures", group="prompt", metavar="NAME", default=None
    )
    prompt_extend_target_lang: TargetLang = option(
        "language of improved prompts: English or Chinese", group="prompt", default="en"
    )
    prompt_extend_timeout: float = option(
        "seconds for an improved prompt, in all", group="prompt", metavar="S", default=60
    )
    prompt_extend_method: str = option(
        "how prompts are improved; the original's dashscope and local_qwen are not offered",
        group="prompt",
        metavar="openai",
        default="openai",
    )

    def __post_init__(self):
        if self.prompt_extend_method != "openai":
            raise UserError(
                f"{self.prompt_extend_method}: is not offered; start an OpenAI-compatible server and give "
                "--prompt_extend_url",
                field="prompt_extend_method",
            )
        if self.prompt_extend_url is not None:
            check_base_url(self.prompt_extend_url, "prompt_extend_url")
            if not self.prompt_extend_model:
                raise UserError("needs --prompt_extend_model, the model to ask", field="prompt_extend_url")
        elif self.prompt_extend_model is not None:
            raise UserError("needs --prompt_extend_url, the server to ask", field="prompt_extend_model")
        if not 0 < self.prompt_extend_timeout < math.inf:
            raise UserError(f"{self.prompt_extend_timeout}: give seconds above 0", field="prompt_extend_timeout")
