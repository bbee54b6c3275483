"""The picture sizes that models are trained on, and others of as many pixels. Imports no NumPy, so that options may
name them."""

import difflib
import math
import re
from collections.abc import Mapping
from typing import Any, Literal

from talkverse_jax.core.errors import UserError

# How a picture becomes a frame: whole or cropped with black bars, cropped without, or in (nearly) its own shape.
Fit = Literal["pad", "crop", "exact"]

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
    # For the toy world of several people: up to two in the first, so that a mouth is half as wide again as a latent of
    # 16 pixels, three or four in the second; each person has two or three whole tokens of 32 pixels, side by side.
    "toy-people": {
        0.67: (128, 192),
        0.50: (128, 256),
    },
}

# Of each bucket the size (H, W) that documentation speaks of.
_TYPICAL = {"fasttalk-480": (640, 640), "fasttalk-720": (704, 1280), "tiny-128": (128, 128), "toy-people": (128, 192)}

AUTO = "auto"  # a size by the picture's shape
OPENAI_SIZES = ("1280x720", "720x1280", "1792x1024", "1024x1792")  # which its clients offer

_LISTED = 24  # sizes that a person may want to read

# What sides of exact sizes are multiples of: 16 pixels a latent of the VAE, 2 latents a token.
_STEP = 32


def register(name: str, sizes: dict[float, tuple[int, int]], typical: tuple[int, int] | None = None) -> None:
    """Add a family's own bucket.

    Args:
      typical: the size that documentation speaks of; by default the first.
    """
    BUCKETS[name] = sizes
    _TYPICAL[name] = typical or next(iter(sizes.values()))


def sizes(bucket: str, exact: bool = False) -> tuple[tuple[int, int], ...]:
    """The sizes (H, W) of the named bucket; that which documentation speaks of comes first.

    Args:
      exact: also those in between, for pictures of any shape: sides are multiples of 32, no shorter and no longer than
        the bucket's, and their area is no larger than that of the first size, but would be with 32 pixels more a side.

    Raises:
      UserError: no bucket has that name.
    """
    known, typical = list(_bucket(bucket).values()), _TYPICAL[bucket]
    if exact:
        known = sorted({*known, *_between(known, math.prod(typical))})
    return typical, *(size for size in known if size != typical)


def _between(known: list[tuple[int, int]], area: int) -> list[tuple[int, int]]:
    """The multiples of 32 that fill the area, between the shortest and the longest of known sides."""
    sides = range(min(map(min, known)), max(map(max, known)) + 1, _STEP)
    return [(h, w) for h in sides for w in sides if h * w <= area < (h + _STEP) * (w + _STEP)]


def frame_size(settings: Any, height: int, width: int, exact: bool = False) -> tuple[int, int]:
    """The size (H, W) of the video of a picture, by the settings `size_bucket` and `size`.

    Raises:
      UserError: as of `size_asked`.
    """
    asked = size_asked(settings.size_bucket, settings.size, exact)
    return asked or (choose_exact if exact else choose)(settings.size_bucket, height, width)


def frame_sizes(settings: Any, exact: bool = False) -> tuple[tuple[int, int], ...]:
    """All sizes (H, W) that a video can have by these settings; that which documentation speaks of comes first.

    Raises:
      UserError: as of `size_asked`.
    """
    asked = size_asked(settings.size_bucket, settings.size, exact)
    return (asked,) if asked else sizes(settings.size_bucket, exact)


def choose(bucket: str, height: int, width: int) -> tuple[int, int]:
    """The size (H, W) of the named bucket whose key is closest to the picture's H/W.

    Raises:
      UserError: no bucket has that name.
    """
    known = _bucket(bucket)
    return known[min(known, key=lambda key: abs(key - height / width))]


def choose_exact(bucket: str, height: int, width: int) -> tuple[int, int]:
    """The one of `sizes(bucket, exact=True)` that loses the smallest share of a picture; of several the largest.

    Raises:
      UserError: no bucket has that name.
    """
    lost = lambda size: abs(math.log(size[0] * width / (size[1] * height)))  # noqa: E731
    return min(sizes(bucket, exact=True), key=lambda size: (lost(size), -math.prod(size)))


def size_asked(bucket: str, size: str, exact: bool = False) -> tuple[int, int] | None:
    """The size (H, W) that a person asks for; None where the picture's shape decides.

    Args:
      size: `auto`; `WIDTHxHEIGHT` of one of `sizes`; or one of `OPENAI_SIZES`, for that of them which is closest in
        shape.

    Raises:
      UserError: no bucket has that name, or it has no such size.
    """
    if size == AUTO:
        return None
    shown = {f"{width}x{height}": (height, width) for height, width in sizes(bucket, exact)}
    if size in OPENAI_SIZES and size not in shown:
        width, height = map(int, size.split("x"))
        return (choose_exact if exact else choose)(bucket, height, width)
    return named_size(shown, size)


def named_size(shown: Mapping[str, tuple[int, int]], asked: str) -> tuple[int, int]:
    """The size (H, W) of a name, `WIDTHxHEIGHT`.

    Raises:
      UserError: there is none; the nearest in shape is named.
    """
    if asked in shown:
        return shown[asked]
    there = ", ".join(shown) if len(shown) <= _LISTED else f"{len(shown)} others"
    near = ""
    if match := re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", asked):
        shape = math.log(int(match[1]) / int(match[2]))
        near = min(shown, key=lambda name: abs(math.log(shown[name][1] / shown[name][0]) - shape))
        near = f"; nearest in shape is {near}"
    raise UserError(f"{asked}: there are {there}{near}", field="size")


def _bucket(name: str) -> dict[float, tuple[int, int]]:
    if name not in BUCKETS:
        near = difflib.get_close_matches(name, BUCKETS, n=1, cutoff=0.3)
        hint = f"did you mean {near[0]}? " if near else ""
        raise UserError(f"{name}: no such bucket; {hint}there are {', '.join(BUCKETS)}", field="size_bucket")
    return BUCKETS[name]
