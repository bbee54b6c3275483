"""The picture sizes a model was trained on, and how a picture is brought to one."""

import difflib
from typing import Any

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image
from PIL.Image import Resampling

from talkverse_jax.core.errors import UserError

# Bucket -> shape key, about H/W -> (H, W) in pixels.
BUCKETS: dict[str, dict[float, tuple[int, int]]] = {
    "fasttalk-480": {
        0.26: (320, 1216),
        0.38: (384, 1024),
        0.50: (448, 896),
        0.67: (512, 768),
        0.82: (576, 704),
        1.00: (640, 640),
        1.22: (704, 576),
        1.50: (768, 512),
        1.86: (832, 448),
        2.00: (896, 448),
        2.50: (960, 384),
        2.83: (1088, 384),
        3.60: (1152, 320),
        3.80: (1216, 320),
        4.00: (1280, 320),
    },
    "fasttalk-720": {
        0.22: (448, 2048),
        0.29: (512, 1792),
        0.36: (576, 1600),
        0.45: (640, 1408),
        0.55: (704, 1280),
        0.63: (768, 1216),
        0.76: (832, 1088),
        0.88: (896, 1024),
        1.00: (960, 960),
        1.14: (1024, 896),
        1.31: (1088, 832),
        1.50: (1152, 768),
        1.58: (1216, 768),
        1.82: (1280, 704),
        1.91: (1344, 704),
        2.20: (1408, 640),
        2.30: (1472, 640),
        2.67: (1536, 576),
        2.89: (1664, 576),
        3.62: (1856, 512),
        3.75: (1920, 512),
    },
    # For the demo and the tests: seconds on a CPU, and still one group of the coarsest motion tokens a side.
    "tiny-128": {
        0.80: (128, 160),
        1.00: (128, 128),
        1.25: (160, 128),
    },
}

# Of each bucket the size (H, W) that documentation speaks of.
_TYPICAL = {"fasttalk-480": (640, 640), "fasttalk-720": (704, 1280), "tiny-128": (128, 128)}


def register(name: str, sizes: dict[float, tuple[int, int]]) -> None:
    """Add a family's own bucket; its first size is the one that documentation speaks of."""
    BUCKETS[name] = sizes
    _TYPICAL[name] = next(iter(sizes.values()))


def sizes(bucket: str) -> tuple[tuple[int, int], ...]:
    """The sizes (H, W) of the named bucket; that which documentation speaks of comes first.

    Raises:
      UserError: no bucket has that name.
    """
    known, typical = _bucket(bucket).values(), _TYPICAL[bucket]
    return typical, *(size for size in known if size != typical)


def choose(bucket: str, height: int, width: int) -> tuple[int, int]:
    """The size (H, W) of the named bucket whose key is closest to the picture's H/W.

    Raises:
      UserError: no bucket has that name.
    """
    known = _bucket(bucket)
    return known[min(known, key=lambda key: abs(key - height / width))]


def _bucket(name: str) -> dict[float, tuple[int, int]]:
    if name not in BUCKETS:
        near = difflib.get_close_matches(name, BUCKETS, n=1, cutoff=0.3)
        hint = f"did you mean {near[0]}? " if near else ""
        raise UserError(f"{name}: no such bucket; {hint}there are {', '.join(BUCKETS)}", field="size_bucket")
    return BUCKETS[name]


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
