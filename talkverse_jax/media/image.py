"""Reading the picture that is to speak."""

import io
import struct
import warnings
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import av
import numpy as np
from av.stream import Disposition
from jaxtyping import UInt8
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.ExifTags import IFD

from talkverse_jax.core.errors import UserError
from talkverse_jax.core.files import open_regular, regular_file
from talkverse_jax.media.child import reading
from talkverse_jax.media.colour import ADOBE_RGB, PICTURES
from talkverse_jax.media.fit import Framing
from talkverse_jax.media.heif import is_heif, numbered_colours, open_heif
from talkverse_jax.media.kinds import FILMS, HEAD
from talkverse_jax.media.media import open_media
from talkverse_jax.media.memory import for_pixels
from talkverse_jax.media.profile import to_srgb
from talkverse_jax.media.rgb import converter
from talkverse_jax.media.walls import LOCAL, AboveLimit, Unusable, Walls

# A face needs some pixels; anything below is a tracking pixel or an icon.
SHORTEST_SIDE = 32
LONGEST = 100  # times the short side: scaled to a video's height, a longer strip would take gigabytes

# What Pillow's and libheif's readers raise for damaged files.
_DAMAGED = (
    OSError,
    SyntaxError,
    ValueError,
    RuntimeError,
    EOFError,
    TypeError,
    LookupError,
    ArithmeticError,
    struct.error,
)

_ANIMATED = {"GIF", "WEBP", "PNG", "AVIF"}

# Pillow would take many of these for TIFF, and show the small picture inside that is for lists of files.
_RAW = {".dng", ".nef", ".nrw", ".cr2", ".cr3", ".arw", ".raf", ".orf", ".rw2", ".pef", ".srw"}


def read_image(
    path: str | Path, say: Callable[[str], Any] = lambda note: None, walls: Walls = LOCAL
) -> UInt8[np.ndarray, "H W 3"]:
    """Read a picture as 8-bit sRGB, turned as its EXIF orientation says.

    Opaque 8-bit pixels without a colour profile are those of Pillow's `convert("RGB")`. Transparent ones lie on
    white, 16-bit values are scaled (not clipped), profiles are followed; of an animation the first picture is taken.
    Pixels are square, whatever its resolution says.

    Args:
      say: is told what is changed or assumed, in a few words.
      walls: what is let in.

    Raises:
      UserError: no such file, not a picture (a video is named as such) or of a kind that is not let in, cut short, a
        side under 32 pixels, or too many pixels.
    """
    return _framed(path, lambda height, width: None, say, walls)[0]


def read_framed(
    path: str | Path,
    frame: Callable[[int, int], Framing],
    say: Callable[[str], Any] = lambda note: None,
    walls: Walls = LOCAL,
) -> tuple[UInt8[np.ndarray, "H W 3"], Framing]:
    """Read a picture as `read_image` does, and make a frame of it.

    Args:
      frame: how a picture of so many rows and columns becomes a frame.
    """
    return _framed(path, frame, say, walls)


F = TypeVar("F", Framing, None)


def _framed(
    path: str | Path, frame: Callable[[int, int], F], say: Callable[[str], Any], walls: Walls
) -> tuple[UInt8[np.ndarray, "H W 3"], F]:
    # Closed first: what the reader holds must not outlive its share of the memory.
    with reading(_picture, str(path), walls) as pieces, for_pixels(next(pieces)), closing(pieces):
        framing = frame(*next(pieces))
        picture = pieces.send(framing)
        for note in next(pieces):
            say(note)
    return picture, framing


def _picture(path: str, walls: Walls) -> Generator[Any, Framing | None, None]:
    """Yields the number of its pixels before it is decoded, its size (rows, columns), the pixels as the answer to that
    says, and what is changed or assumed.
    """
    if Path(path).suffix.lower() in _RAW:
        regular_file(path, "a picture")
        raise UserError(f"{path}: what a camera's sensor saw, not developed; save it as PNG or JPEG")
    notes: list[str] = []
    try:
        with open_regular(path, "a picture") as file:
            with _quiet():
                image = _open(file, walls.kinds.pictures)
            width, height = image.size
            walls.check_pixels(path, width, height, "picture")
            check_sides(path, width, height, "picture")
            yield width * height
            with _quiet(), image:
                pixels = _pixels(image, path, walls, notes.append)
    except UnidentifiedImageError:
        if next(_is_video(path, walls)):
            raise UserError(f"{path}: is a video; give a picture ({walls.kinds.such_pictures})") from None
        raise UserError(f"{path}: not a picture that can be read; save it as PNG or JPEG") from None
    except Image.DecompressionBombError:
        raise AboveLimit(
            f"{path}: more than {walls.max_pixels / 10**6:g} million pixels; scale it down first"
        ) from None
    except _DAMAGED as error:
        why = " ".join(str(error).split())
        raise UserError(f"{path}: damaged or cut short ({why}); save the picture again") from None
    framing = yield pixels.shape[:2]
    yield framing(pixels) if framing else pixels
    yield notes


@contextmanager
def _quiet() -> Iterator[None]:
    """Pillow warns of damaged tags, which nobody needs, and of sizes, which `walls` were asked about."""
    with warnings.catch_warnings():
        for kind in (UserWarning, Image.DecompressionBombWarning):
            warnings.simplefilter("ignore", kind)
        yield


def _pixels(image: Image.Image, path: str, walls: Walls, say: Callable[[str], Any]) -> UInt8[np.ndarray, "H W 3"]:
    _say_which(image, say)
    if found := numbered_colours(image, path, walls):
        colours, image = found
        say(colours.note)
    return np.asarray(_to_srgb(ImageOps.exif_transpose(image), path, say))


def check_sides(path: str | Path, width: int, height: int, what: str) -> None:
    """Make sure that a picture, or a video's, is no icon and no strip.

    Raises:
      Unusable: its short side is too short, or its long side too long for it.
    """
    if min(width, height) < SHORTEST_SIDE:
        raise Unusable(f"{path}: {width}x{height} pixels; the short side needs {SHORTEST_SIDE}, give a larger {what}")
    if max(width, height) > LONGEST * min(width, height):
        raise Unusable(f"{path}: {width}x{height} pixels; one side is over {LONGEST} times the other, cut a part out")


def _open(file: io.FileIO, formats: frozenset[str]) -> Image.Image:
    """The picture, not decoded yet, by one of these of Pillow's formats."""
    head = file.read(HEAD)
    file.seek(0)
    if "HEIF" in formats and is_heif(head):
        return open_heif(file)
    return Image.open(file, formats=sorted(formats - {"HEIF"}))


def _say_which(image: Image.Image, say: Callable[[str], Any]) -> None:
    """Say which of several pictures is taken. (A JPEG's further ones only help to show the first.)"""
    if image.format in _ANIMATED and getattr(image, "is_animated", False):
        say("an animation, its first picture taken")
    elif image.format == "TIFF" and getattr(image, "n_frames", 1) > 1:
        say(f"{getattr(image, 'n_frames', 1)} pages, the first taken")
    elif image.format == "HEIF" and getattr(image, "n_frames", 1) > 1:
        say(f"{getattr(image, 'n_frames', 1)} pictures, the main one taken")


def _to_srgb(image: Image.Image, path: str | Path, say: Callable[[str], Any]) -> Image.Image:
    profile = image.info.get("icc_profile")
    if image.mode.startswith("I;16"):
        values = np.asarray(image).astype(np.uint32)
        image = Image.fromarray(((values * 255 + 32767) // 65535).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise UserError(f"{path}: 32 bits a pixel, of unknown range; save it as 8-bit PNG or JPEG")
    if image.has_transparency_data:
        with_alpha = image.convert("RGBA")
        alpha = with_alpha.getchannel("A")
        grey = image.mode in ("L", "LA", "La")
        colours = to_srgb(with_alpha.convert("RGB").convert("L") if grey else with_alpha.convert("RGB"), profile, say)
        if (np.asarray(alpha) < 255).any():
            say("transparent, laid on white")
        colours.putalpha(alpha)
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), colours).convert("RGB")
    if profile is None and _says_adobe_rgb(image):
        say(ADOBE_RGB.note)
        frame = av.VideoFrame.from_ndarray(np.asarray(image.convert("RGB")), format="rgb24")
        return Image.fromarray(converter(ADOBE_RGB, PICTURES)(frame))
    return to_srgb(image if image.mode in ("L", "CMYK", "LAB") else image.convert("RGB"), profile, say)


def _says_adobe_rgb(image: Image.Image) -> bool:
    """Whether EXIF does, which is how cameras do: by an interoperability index of R03."""
    if image.mode != "RGB":
        return False
    try:
        return image.getexif().get_ifd(IFD.Interop).get(1) == "R03"
    except KeyError:  # Pillow 12.3, of a picture that has no such part
        return False


def is_video(path: str | Path, walls: Walls = LOCAL) -> bool:
    """Whether it is a film. A sound with a cover is none, nor is a single picture in a video container (HEIC).

    Raises:
      UserError: it is above the limits, or its reader did not end well.
    """
    with reading(_is_video, str(path), walls) as pieces:
        return next(pieces)


def _is_video(path: str, walls: Walls) -> Generator[bool, None, None]:
    try:
        with open_media(path, "a video", walls, walls.kinds.media & FILMS) as container:
            streams = container.streams.video
            yield any(stream.frames != 1 and not stream.disposition & Disposition.attached_pic for stream in streams)
    except AboveLimit:  # it is, or nearly: what is wrong with it is worth more than what it is
        raise
    except UserError:
        yield False
