"""A picture's ICC profile, followed to sRGB."""

import io
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
from PIL import Image, ImageCms

# Values that a profile moves by no more are left: it is sRGB's, as some program has rounded it.
_SAME = 1
_MODES = {"RGB": ("RGB",), "GRAY": ("L",), "CMYK": ("CMYK",), "Lab": ("LAB",)}


def to_srgb(image: Image.Image, profile: bytes | None, say: Callable[[str], Any]) -> Image.Image:
    """A picture of mode L, RGB, CMYK or LAB as sRGB: relative colorimetric, with black point compensation.

    Args:
      profile: what its values mean; without one, or with one that cannot be used, they are sRGB's, and CMYK is
        converted by formula.
      say: is told what is changed or assumed, in a few words.
    """
    if image.mode == "LAB":
        return _applied(image, ImageCms.createProfile("LAB"))
    if profile is None:
        if image.mode == "CMYK":
            say("CMYK without a colour profile, converted by formula")
        return image.convert("RGB")
    try:
        parsed = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        space = _space(parsed)
        if space == "RGB" and image.mode == "L":
            image = image.convert("RGB")
        if image.mode not in _MODES.get(space, ()):
            say(f"its colour profile is for {space or 'nothing'}, ignored")
            return image.convert("RGB")
        if _is_srgb(profile, image.mode):
            return image.convert("RGB")
        result = _applied(image, parsed)
    except (ImageCms.PyCMSError, OSError, TypeError):
        say("its colour profile is damaged, ignored")
        return image.convert("RGB")
    say(f"colours of its profile ({_name(parsed)}), converted to sRGB")
    return result


def _applied(image: Image.Image, profile: Any) -> Image.Image:
    intent, flags = ImageCms.Intent.RELATIVE_COLORIMETRIC, ImageCms.Flags.BLACKPOINTCOMPENSATION
    way = ImageCms.buildTransform(profile, ImageCms.createProfile("sRGB"), image.mode, "RGB", intent, flags)
    result = ImageCms.applyTransform(image, way)
    assert result is not None  # it is when the image itself is changed
    return result


@lru_cache(maxsize=8)
def _is_srgb(profile: bytes, mode: str) -> bool:
    """Whether a lattice of colours comes out as it went in."""
    if mode not in ("L", "RGB"):
        return False
    if mode == "L":
        values = np.arange(256, dtype=np.uint8)[None]
    else:
        lattice = np.arange(0, 256, 15, dtype=np.uint8)
        values = np.stack(np.meshgrid(lattice, lattice, lattice), axis=-1).reshape(len(lattice), -1, 3)
    image = Image.fromarray(values)
    moved = _applied(image, ImageCms.ImageCmsProfile(io.BytesIO(profile)))
    return np.abs(np.asarray(moved, int) - np.asarray(image.convert("RGB"), int)).max() <= _SAME


def _space(profile: ImageCms.ImageCmsProfile) -> str:
    inside: Any = profile.profile
    return inside.xcolor_space.strip()


def _name(profile: ImageCms.ImageCmsProfile) -> str:
    return " ".join(ImageCms.getProfileDescription(profile).split())[:60] or "without a name"
