"""Reading the picture that is to speak."""

import warnings
from pathlib import Path

import numpy as np
from av.stream import Disposition
from jaxtyping import UInt8
from PIL import Image, ImageOps, UnidentifiedImageError

from talkverse_jax.core.errors import UserError
from talkverse_jax.media.media import existing_file, open_media

# A face needs some pixels; anything below is a tracking pixel or an icon.
SHORTEST_SIDE = 32
LONGEST = 100  # times the short side: scaled to a video's height, a longer strip would take gigabytes

# FFmpeg's names. It would open a text file too, as a film of a terminal.
_VIDEO_FORMATS = {"mov", "matroska", "avi", "mpegts", "mpeg", "flv", "asf", "ogg"}


def read_image(path: str | Path) -> UInt8[np.ndarray, "H W 3"]:
    """Read a picture as 8-bit RGB, turned as its EXIF orientation says.

    Opaque 8-bit pixels are those of Pillow's `convert("RGB")`. Transparent ones lie on white, 16-bit values
    are scaled (not clipped), CMYK is converted without a colour profile; of an animation the first picture
    is taken.

    Raises:
      UserError: no such file, not a picture (a video is named as such), cut short, a side under 32 pixels, or
        more than 89 million pixels.
    """
    file = existing_file(path, "a picture")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file) as image:
                check_sides(path, *image.size, "picture")
                return np.asarray(_to_rgb(ImageOps.exif_transpose(image), path))
    except UnidentifiedImageError:
        if is_video(file):
            raise UserError(f"{path}: is a video; give a picture (PNG, JPEG, WebP)") from None
        raise UserError(f"{path}: not a picture that can be read; save it as PNG or JPEG") from None
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise UserError(
            f"{path}: more than {(Image.MAX_IMAGE_PIXELS or 0) // 10**6} million pixels; scale it down first"
        ) from None
    except (OSError, SyntaxError, ValueError) as error:  # what Pillow's readers raise for damaged files
        raise UserError(f"{path}: damaged or cut short ({error}); save the picture again") from None


def check_sides(path: str | Path, width: int, height: int, what: str) -> None:
    """Make sure that a picture, or a video's, is no icon and no strip.

    Raises:
      UserError: its short side is too short, or its long side too long for it.
    """
    if min(width, height) < SHORTEST_SIDE:
        raise UserError(f"{path}: {width}x{height} pixels; the short side needs {SHORTEST_SIDE}, give a larger {what}")
    if max(width, height) > LONGEST * min(width, height):
        raise UserError(f"{path}: {width}x{height} pixels; one side is over {LONGEST} times the other, cut a part out")


def _to_rgb(image: Image.Image, path: str | Path) -> Image.Image:
    if image.mode.startswith("I;16"):
        values = np.asarray(image).astype(np.uint32)
        return Image.fromarray(((values * 255 + 32767) // 65535).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        raise UserError(f"{path}: 32 bits a pixel, of unknown range; save it as 8-bit PNG or JPEG")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


def is_video(file: str | Path) -> bool:
    """Whether it is a film. A sound with a cover is none, nor is a single picture in a video container (HEIC)."""
    try:
        with open_media(file, "a video") as container:
            streams = container.streams.video
            return not _VIDEO_FORMATS.isdisjoint(container.format.name.split(",")) and any(
                stream.frames != 1 and not stream.disposition & Disposition.attached_pic for stream in streams
            )
    except UserError:
        return False
