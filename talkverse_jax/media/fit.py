"""How a picture is brought to a size, and its bytes to numbers."""

from typing import Any

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image
from PIL.Image import Resampling


def fit(image: UInt8[np.ndarray, "h w 3"], height: int, width: int) -> UInt8[np.ndarray, "H W 3"]:
    """The middle of the picture, scaled so that its short side is min(H, W).

    Pillow's 8-bit bilinear filter; the long side is truncated to an integer, the crop's offset rounded half
    to even; where the scaled picture is smaller than the crop there are black bars. A
    resize in floats moves the video by 3e-3.
    """
    h, w = image.shape[:2]
    short = min(height, width)
    size = (short, int(short * h / w)) if w <= h else (int(short * w / h), short)
    scaled = Image.fromarray(image).resize(size, Resampling.BILINEAR)
    left, top = _offset(size[0], width), _offset(size[1], height)
    return np.asarray(scaled.crop((left, top, left + width, top + height)))


def _offset(size: int, target: int) -> int:
    """Where the crop starts; negative for a bar in front."""
    return -((target - size) // 2) if size < target else round((size - target) / 2)


def covering(height: int, width: int, target: tuple[int, int]) -> tuple[float, tuple[int, int], tuple[int, int]]:
    """How training pictures of that size become `target` (H, W): (scale, size (h, w) then, crop's (top, left)).

    The scale is the least that covers the target; sizes are rounded, offsets rounded half to even.
    """
    scale = max(target[1] / width, target[0] / height)
    size = round(height * scale), round(width * scale)
    return scale, size, (round((size[0] - target[0]) / 2), round((size[1] - target[1]) / 2))


def cover(image: UInt8[np.ndarray, "h w 3"], target: tuple[int, int]) -> UInt8[np.ndarray, "H W 3"]:
    """The middle of a picture scaled to cover `target` (H, W), with Pillow's 8-bit bilinear filter."""
    _, (height, width), (top, left) = covering(image.shape[0], image.shape[1], target)
    scaled = Image.fromarray(image).resize((width, height), Resampling.BILINEAR)
    return np.asarray(scaled.crop((left, top, left + target[1], top + target[0])))


def to_unit(image: UInt8[Any, "*shape"]) -> Float32[Any, "*shape"]:
    """Bytes 0..255 to pixels in [-1, 1], of NumPy's arrays or of JAX's."""
    return image.astype(np.float32) / 255 * 2 - 1
