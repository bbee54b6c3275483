"""The picture that a model is shown that improves prompts.

Shapes: H W rows and columns, of at most 768.
"""

from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image
from PIL.Image import Resampling

from talkverse_jax.media.fit import Framing, framing
from talkverse_jax.media.image import is_video, read_framed
from talkverse_jax.media.source_video import SourceVideo
from talkverse_jax.media.walls import LOCAL, Walls

LONGEST = 768  # pixels a side


def read(path: str | Path, walls: Walls = LOCAL) -> UInt8[np.ndarray, "H W 3"]:
    """A picture, or the first one of a video, scaled down where it is larger.

    Raises:
      UserError: it cannot be read, or is not let in.
    """
    if is_video(path, walls):
        video = SourceVideo(path, fit="crop", walls=walls)
        return video.read(0, 1, _size(video.height, video.width))[0]
    return read_framed(path, _framing, walls=walls)[0]


def scaled(picture: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "H W 3"]:
    """A picture of any size, scaled down where it is larger."""
    height, width = _size(*picture.shape[:2])
    if (height, width) == picture.shape[:2]:
        return picture
    return np.asarray(Image.fromarray(picture).resize((width, height), Resampling.LANCZOS))


def _framing(height: int, width: int) -> Framing:
    return framing((height, width), _size(height, width), "crop")


def _size(height: int, width: int) -> tuple[int, int]:
    scale = min(1.0, LONGEST / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))
