"""The prompts of a job to what the transformer is conditioned on."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float

from talkverse_jax.pipeline.encoders import TextEncoder, load_tokenizer
from talkverse_jax.pipeline.events import Events
from talkverse_jax.pipeline.models import Models


def encode_prompts(
    models: Models, prompts: Mapping[str, str], text_len: int, events: Events
) -> tuple[list[Float[np.ndarray, "1 text_len D"]], list[str]]:
    """The hidden states of each prompt, and lines for the user.

    Args:
      prompts: by the names of their settings.
    """
    with events.phase("loading"):
        encoder = TextEncoder(models["text"], load_tokenizer(models.folder_of("text") / "tokenizer"))
    with events.phase("encoding"), models.device_of("text"):
        encoded = encoder.encode(list(prompts.values()), text_len)
        states = np.asarray(encoded.states)
    notices = [
        f"{name}: {tokens} tokens, cut to {kept}"
        for name, tokens, kept in zip(prompts, encoded.tokens, encoded.lengths)
        if tokens > kept
    ]
    return np.split(states, len(states)), notices
