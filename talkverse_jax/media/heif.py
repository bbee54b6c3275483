"""Pictures as phones send them: HEIC; and those that tell their colours by numbers instead of a profile."""

import io
import re
import struct
from pathlib import Path

import av
import numpy as np
from PIL import Image

from talkverse_jax.core.errors import UserError
from talkverse_jax.core.files import open_regular
from talkverse_jax.media.colour import PICTURES, Colours, colours_of
from talkverse_jax.media.media import open_media
from talkverse_jax.media.rgb import converter
from talkverse_jax.media.walls import Walls

_HEAD = 1 << 16  # bytes in which a picture says what it holds
_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"mif2", b"msf1"}
_READERS = frozenset({"png_pipe", "mov"})  # FFmpeg's, of PNG and AVIF


def is_heif(head: bytes) -> bool:
    """Whether a file that begins so is a picture of HEIF's kind."""
    return head[4:8] == b"ftyp" and head[8:12] in _BRANDS


def open_heif(file: io.FileIO) -> Image.Image:
    """The main picture, upright.

    Raises:
      SyntaxError, ValueError: it is damaged.
    """
    import pillow_heif  # 0.1 s, and few pictures need it

    return pillow_heif.HeifImageFile(file)


def numbered_colours(image: Image.Image, path: str | Path, walls: Walls) -> tuple[Colours, Image.Image] | None:
    """The colours of a picture that tells them by numbers (ITU-T H.273), and the picture converted to sRGB; None where
    they are sRGB's, or a profile says what they are.

    Args:
      image: the file opened, not turned yet.
    """
    if image.info.get("icc_profile"):
        return None
    colours = [colours_of(*numbers) for numbers in _numbers(image, path)]
    # A picture that lies beside the one that is shown, such as a gain map, may have numbers of its own.
    if not colours or any(one.ordinary for one in colours):
        return None
    frame = _heif_frame(path) if image.format == "HEIF" else _first_frame(path, walls)
    if frame is None or (frame.width, frame.height) != image.size:
        return None
    result = Image.fromarray(converter(colours[0], PICTURES)(frame))
    result.getexif().update(image.getexif())
    return colours[0], result


def _numbers(image: Image.Image, path: str | Path) -> list[tuple[int, ...]]:
    """Primaries, transfer and matrix, of each picture in the file that says them."""
    if image.mode != "RGB":
        return []
    if image.format == "HEIF":
        found = image.info.get("nclx_profile") or {}
        names = ("color_primaries", "transfer_characteristics", "matrix_coefficients")
        return [tuple(int(found[name]) for name in names)] if found else []
    with open_regular(path, "a picture") as file:
        start = file.read(_HEAD)
    if image.format == "AVIF":
        return [struct.unpack(">3H", found) for found in re.findall(rb"colrnclx(.{6})", start, re.DOTALL)]
    if image.format == "PNG":
        before_pixels = start.partition(b"IDAT")[0]
        return [
            struct.unpack("3B", found) for found in re.findall(rb"\x00\x00\x00\x04cICP(.{3})", before_pixels, re.DOTALL)
        ]
    return []


def _heif_frame(path: str | Path) -> av.VideoFrame:
    """With all its bits."""
    import pillow_heif

    with open_regular(path, "a picture") as file:
        opened = pillow_heif.open_heif(file, convert_hdr_to_8bit=False)
        pixels = np.ascontiguousarray(opened)
    return av.VideoFrame.from_ndarray(pixels, format="rgb48le" if opened.mode == "RGB;16" else "rgb24")


def _first_frame(path: str | Path, walls: Walls) -> av.VideoFrame | None:
    """With all its bits, which Pillow does not give; None for a picture of tiles."""
    try:
        with open_media(path, "a picture", walls, _READERS) as container:
            return next(container.decode(video=0), None)
    except UserError:
        return None
