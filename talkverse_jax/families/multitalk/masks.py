"""Who is where in the picture, as the model is told: masks on the grid of latents.

A mask has the picture's size, and goes with it: scaled to the nearest pixel, cropped, and then, to the nearest pixel
again, made as large as the latents. What is left of a mask's pixel is thus one pixel of the picture for each latent.

Shapes: N people, C classes (the people in their order, and the background), H W pixels of the picture, h w latents, h2
w2 tokens.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Int

from talkverse_jax.core.errors import UserError
from talkverse_jax.core.options import NO_FILE
from talkverse_jax.families.multitalk.boxes import Box, parse
from talkverse_jax.families.multitalk.config import MultiTalkConfig
from talkverse_jax.media.fit import Framing
from talkverse_jax.media.image import read_image
from talkverse_jax.media.walls import LOCAL, Walls
from talkverse_jax.models.vae.config import VAEConfig

_WHITE = 128  # a mask's pixel shows the person from here on
_EDGE = 0.05  # of the picture's height, and of a strip's width: nobody is there unless told


class Cells(NamedTuple):
    """What a mask is made smaller to.

    Attributes:
      latent: pixels of a side of a latent.
      token: rows and columns of latents of a token.
    """

    latent: int
    token: tuple[int, int]

    @classmethod
    def of(cls, dit: MultiTalkConfig, vae: VAEConfig) -> "Cells":
        """Those of two models."""
        _, rows, columns = dit.trunk.patch_size
        return cls(vae.space_stride, (rows, columns))

    @property
    def pixels(self) -> tuple[int, int]:
        """Rows and columns of pixels of a token."""
        rows, columns = self.token
        return self.latent * rows, self.latent * columns


def read_masks(
    people: int,
    bbox: Sequence[str],
    mask: Sequence[str],
    framing: Framing,
    cells: Cells,
    say: Callable[[str], Any] = lambda note: None,
    walls: Walls = LOCAL,
) -> Bool[np.ndarray, "C h w"]:
    """The masks of the people, by their boxes or mask pictures; without any the people stand side by side. One person
    alone is everywhere, and so is the background, which nobody asks for then.

    Args:
      bbox, mask: as of `settings.Files`.
      framing: what is made of the picture.
      cells: of the models.
      say: is told what is assumed of mask pictures.
      walls: what is let in.

    Raises:
      UserError: a mask picture cannot be used, or a box or mask does not fit the picture or the others.
    """
    rows, columns = kept(framing, cells.latent)
    if people == 1:
        return np.ones((2, len(rows), len(columns)), bool)
    places = [
        _of_picture(path, framing.picture, say, walls)[np.ix_(rows, columns)]
        if path != NO_FILE
        else of_box(_box(number, people, bbox, framing.picture), rows, columns)
        for number, path in enumerate(mask or [NO_FILE] * people)
    ]
    fields = ["mask" if mask and mask[number] != NO_FILE else "bbox" for number in range(people)]
    _check(on_tokens(np.stack(places), cells), np.stack(places), fields)
    return np.stack([*places, ~np.any(places, axis=0)])


def kept(framing: Framing, latent: int) -> tuple[Int[np.ndarray, " h"], Int[np.ndarray, " w"]]:
    """The rows and columns of the picture that its masks keep, one for each latent of so many pixels a side."""
    rows, columns = (
        nearest(picture, scaled)[start : start + frame][nearest(frame, frame // latent)]
        for picture, scaled, start, frame in zip(framing.picture, framing.scaled, framing.corner, framing.frame)
    )
    return rows, columns


def nearest(size: int, wanted: int) -> Int[np.ndarray, " wanted"]:
    """The place of which each of so many takes its value, where a line of a size is scaled to the nearest pixel.

    PyTorch reckons in float32, which moves a row in 2% of all sizes.
    """
    step = np.float32(size) / np.float32(wanted)
    return np.minimum(np.floor(np.arange(wanted, dtype=np.float32) * step).astype(int), size - 1)


def on_tokens(masks: Bool[np.ndarray, "C h w"], cells: Cells) -> Bool[np.ndarray, "C h2 w2"]:
    """The masks on the grid of tokens."""
    rows, columns = cells.token
    return masks[:, ::rows, ::columns]


def of_box(box: Box, rows: Int[np.ndarray, " h"], columns: Int[np.ndarray, " w"]) -> Bool[np.ndarray, "h w"]:
    """Which of the rows and columns are in the box."""
    inside = (rows >= box.top) & (rows < box.bottom), (columns >= box.left) & (columns < box.right)
    return inside[0][:, None] & inside[1][None, :]


def strip(number: int, people: int, height: int, width: int) -> Box:
    """Where a person is by default: the picture is split in as many strips, left to right."""
    share = width // people
    left, right = (int(share * edge + share * number) for edge in (_EDGE, 1 - _EDGE))
    return Box(int(height * _EDGE), left, int(height * (1 - _EDGE)), right)


def _box(number: int, people: int, bbox: Sequence[str], picture: tuple[int, int]) -> Box:
    height, width = picture
    if not bbox:
        return strip(number, people, height, width)
    box = parse(bbox[number])
    if min(box) < 0 or box.bottom > height or box.right > width:
        raise UserError(
            f"{box}: lies outside the picture, which is {height} high and {width} wide; give top,left,bottom,right",
            field="bbox",
        )
    return box


def _of_picture(path: str, size: tuple[int, int], say: Callable[[str], Any], walls: Walls) -> Bool[np.ndarray, "H W"]:
    """Where a mask picture is white."""
    pixels = read_image(path, lambda note: say(f"{path}: {note}"), walls)
    if pixels.shape[:2] != size:
        (height, width), (wanted_height, wanted_width) = pixels.shape[:2], size
        raise UserError(
            f"{path}: {width}x{height} pixels, the picture has {wanted_width}x{wanted_height}; save it in that size",
            field="mask",
        )
    return pixels.min(axis=2) >= _WHITE


def _check(tokens: Bool[np.ndarray, "N h2 w2"], places: Bool[np.ndarray, "N h w"], fields: Sequence[str]) -> None:
    """Make sure that everybody, and the background, is somewhere, and nobody where another is."""
    for number, field in enumerate(fields):
        if not tokens[number].any():
            raise UserError(
                f"person {number + 1} is nowhere in the video: the place is empty, too small or cut off; give a larger "
                "one",
                field=field,
            )
        for before in range(number):
            if (places[before] & places[number]).any():
                raise UserError(
                    f"persons {before + 1} and {number + 1} overlap; give places that are apart", field=field
                )
    if tokens.any(axis=0).all():
        raise UserError("people cover all of the picture; leave some of it as background", field=fields[-1])
