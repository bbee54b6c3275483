"""The transformer's values on the way, as the original program has them.

Shapes: B batch, F latent frames, L tokens, K head width, D width.
"""

import math

import numpy as np
from einops import rearrange

from talkverse_jax.families.talkverse.config import TalkVerseConfig


def as_the_original(
    kept: dict[str, np.ndarray], config: TalkVerseConfig, grid: tuple[int, ...], batch: int
) -> dict[str, np.ndarray]:
    """The transformer's values on the way, under the original's names and in its layout, without padding.

    Args:
      grid: frames, rows and columns of the noisy tokens.
    """
    tokens, noisy = len(kept["rope_cos"]), math.prod(grid)
    table = lambda x: np.broadcast_to(x[None, :, None], (batch, tokens, 1, x.shape[1]))  # noqa: E731
    cut = lambda x: x[:, :tokens]  # noqa: E731
    theirs = {
        "audio_summary": [("audio_global_all", lambda x: x[:, :, None])],
        "audio_tokens": [("audio_tokens_all", lambda x: x)],
        "rope_cos": [("rope_real", table)],
        "rope_sin": [("rope_imag", table)],
        "patch_embedding": [
            (
                "patch_embedding",
                lambda x: rearrange(x[:, :noisy], "b (f y x) d -> b d f y x", f=grid[0], y=grid[1]),
            )
        ],
        "time_projection": [  # of every sample's noisy tokens, then of the clean ones
            (
                "time_projection",
                lambda x: rearrange(np.concatenate([x[:, 0], x[:1, 1]]), "b six d -> b (six d)"),
            )
        ],
    }
    for i, (block, *injection) in enumerate(config.layers):
        theirs[block] = [(f"block_{i}_before_audio", cut)]
        theirs.setdefault(injection[0] if injection else block, []).append((f"block_{i}", cut))
    return {
        name: rearranged(value)
        for ours, value in kept.items()
        for name, rearranged in theirs.get(ours, [(ours, lambda x: x)])
    }
