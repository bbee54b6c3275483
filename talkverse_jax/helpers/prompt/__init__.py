"""Better prompts, by a language model that sees the picture.

    enhancer = prompt.open(PromptOptions(prompt_extend_url="http://localhost:8000/v1", prompt_extend_model="qwen-vl"))
    better = enhancer.enhance("She talks.", prompt.read_picture("face.png"), "en").prompt

Imports no JAX.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from talkverse_jax.helpers.prompt.options import PromptOptions, TargetLang
from talkverse_jax.media.walls import LOCAL, Walls

if TYPE_CHECKING:
    import numpy as np

    from talkverse_jax.helpers.prompt.enhancer import Enhancer


def open(options: PromptOptions) -> "Enhancer | None":
    """The enhancer that the options describe; None where prompts are not improved."""
    if options.prompt_extend_url is None:
        return None
    from talkverse_jax.helpers.prompt.enhancer import Enhancer

    return Enhancer(options)


def read_picture(path: str | Path, walls: Walls = LOCAL) -> "np.ndarray":
    """A picture, or the first one of a video, for an enhancer: [H W 3] bytes, of at most 768 pixels a side.

    Raises:
      UserError: it cannot be read, or is not let in.
    """
    from talkverse_jax.helpers.prompt.picture import read

    return read(path, walls)


__all__ = ["PromptOptions", "TargetLang", "open", "read_picture"]
