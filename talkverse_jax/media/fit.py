"""How a picture is brought to a frame of another shape, and its bytes to numbers.

Sizes are (rows, columns) in pixels.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image
from PIL.Image import Resampling

from talkverse_jax.media.buckets import Fit

Way = Fit | Literal["fill"]  # fill: as crop, with sides rounded up

_LEAST = 0.0005  # a smaller share would be told as 0.0%


@dataclass(frozen=True)
class Framing:
    """A picture is scaled, and the frame cut from its middle; where the frame is larger, it is black.

    Attributes:
      picture: size of the picture.
      frame: size of the frame.
      scale: pixels of the frame that a pixel of the picture is wide.
      scaled: size of the scaled picture.
    """

    picture: tuple[int, int]
    frame: tuple[int, int]
    scale: float
    scaled: tuple[int, int]

    def __call__(self, image: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "H W 3"]:
        """The frame of a picture, with Pillow's 8-bit bilinear filter: a resize in floats moves the video by 3e-3."""
        (height, width), (rows, columns), (top, left) = self.scaled, self.frame, self.corner
        scaled = Image.fromarray(image).resize((width, height), Resampling.BILINEAR)
        return np.asarray(scaled.crop((left, top, left + columns, top + rows)))

    @property
    def corner(self) -> tuple[int, int]:
        """Where the frame begins in the scaled picture (top, left): half to even, and negative for a bar in front."""
        top, left = (
            -((frame - size) // 2) if size < frame else round((size - frame) / 2)
            for size, frame in zip(self.scaled, self.frame)
        )
        return top, left

    @property
    def bars(self) -> float:
        """The share of the frame that is black."""
        return 1 - math.prod(map(min, self.scaled, self.frame)) / math.prod(self.frame)

    @property
    def cropped(self) -> tuple[float, float]:
        """The shares of the picture's height and of its width that the frame does not show."""
        height, width = (max(0.0, 1 - frame / size) for size, frame in zip(self.scaled, self.frame))
        return height, width

    @property
    def is_whole(self) -> bool:
        """Whether the frame is all of the picture, and nothing else."""
        return not self.bars and max(self.cropped) < _LEAST

    def __str__(self) -> str:
        """Such as `1920x1080, made 832x480 (cropped 2.5% of the width)`."""
        sides = zip(self.cropped, ("height", "width"))
        lost = " and ".join(f"{share:.1%} of the {side}" for share, side in sides if share >= _LEAST)
        made = f"{_shown(self.picture)}, made {_shown(self.frame)}" + (f" (cropped {lost})" if lost else "")
        return made + (f"; black bars are {self.bars:.1%} of the frame" if self.bars else "")


def framing(picture: tuple[int, int], frame: tuple[int, int], fit: Way) -> Framing:
    """How pictures of a size become frames of a size.

    Args:
      fit: "pad": the picture's short side becomes as long as the frame's; its long side is truncated to an integer,
        then cropped or filled up. Otherwise the picture is scaled to cover the frame, with rounded sides, or with sides
        rounded up ("fill").
    """
    (h, w), (height, width) = picture, frame
    if fit == "pad":
        short = min(frame)
        scaled = (short, int(short * w / h)) if h < w else (int(short * h / w), short)
        return Framing(picture, frame, short / min(picture), scaled)
    scale = max(width / w, height / h)
    whole = math.ceil if fit == "fill" else round
    return Framing(picture, frame, scale, (whole(h * scale), whole(w * scale)))


def bring(image: UInt8[np.ndarray, "h w 3"], size: tuple[int, int], fit: Way) -> UInt8[np.ndarray, "H W 3"]:
    """A picture brought to `size` (H, W)."""
    height, width = image.shape[:2]
    return framing((height, width), size, fit)(image)


def cover(image: UInt8[np.ndarray, "h w 3"], size: tuple[int, int]) -> UInt8[np.ndarray, "H W 3"]:
    """The middle of a picture scaled to cover `size` (H, W)."""
    return bring(image, size, "crop")


def to_unit(image: UInt8[Any, "*shape"]) -> Float32[Any, "*shape"]:
    """Bytes 0..255 to pixels in [-1, 1], of NumPy's arrays or of JAX's."""
    return image.astype(np.float32) / 255 * 2 - 1


def _shown(size: tuple[int, int]) -> str:
    return f"{size[1]}x{size[0]}"
