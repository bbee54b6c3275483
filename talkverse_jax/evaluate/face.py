"""Where the face is and how far its mouth is open, read from the frames alone.

The mouth is what moves fastest in a picture of somebody who talks: a head sways and eyes blink, but only a mouth
changes its mind several times a second. What in its middle has not the colour of the skin around it, counted
down the columns, is lips and what lies between them; lips stay as thick as they are, so the rest is the opening.
That holds for drawn heads that look at the viewer; for real video another `FaceReader` takes its place.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8

from talkverse_jax.evaluate.pictures import blurred, luma

Box = tuple[int, int, int, int]  # left, top, right, bottom in pixels; right and bottom are outside

_UNITS = 128  # lengths below are in such shares of the picture's short side
_STEP = 2  # frames between which a mouth moves
_LOOKED_AT = 500  # frames that are looked at to find the mouth
_EDGE = 0.3  # of the most motion: where the mouth ends


@dataclass(frozen=True, eq=False)
class Face:
    """What was read from a video.

    Attributes:
      opening: of the mouth in each frame, in pixels above the most shut.
      mouth: a box around the mouth, whatever it does and wherever the head sways.
      face: a box around the face.
    """

    opening: Float[np.ndarray, " T"]
    mouth: Box
    face: Box


FaceReader = Callable[[UInt8[np.ndarray, "T H W 3"]], Face]


def read_face(frames: UInt8[np.ndarray, "T H W 3"]) -> Face:
    """Read the mouth of one person who faces the viewer and fills most of the picture."""
    height, width = frames.shape[1:3]
    unit = min(height, width) / _UNITS
    mouth = _find_mouth(frames, unit)
    return Face(_opening(frames, mouth, unit), mouth, _face_around(mouth, (height, width), unit))


def _find_mouth(frames: UInt8[np.ndarray, "T H W 3"], unit: float) -> Box:
    grey = luma(frames[:_LOOKED_AT])
    height, width = grey.shape[1:]
    fast = np.zeros((height, width), np.float32)
    if len(grey) > 2 * _STEP:  # the second difference: what moves evenly has none
        fast = np.abs(grey[2 * _STEP :] - 2 * grey[_STEP:-_STEP] + grey[: -2 * _STEP]).mean(0)
    fast = blurred(fast, 2 * unit)
    rows, columns = np.mgrid[:height, :width]
    near = np.exp(-0.5 * ((rows / height - 0.66) / 0.16) ** 2 - 0.5 * ((columns / width - 0.5) / 0.15) ** 2)
    row, column = map(int, np.unravel_index(np.argmax((blurred(fast, 4 * unit) + 0.02) * near), fast.shape))
    top, bottom = _stretch(fast[:, column], row, 14 * unit)
    left, right = _stretch(fast[row], column, 22 * unit)
    middle = (left + right) // 2
    half = max(round(12 * unit), (right - left) // 2) + round(3 * unit)
    up, down = round(4 * unit), round(5 * unit)
    return max(0, middle - half), max(0, top - up), min(width, middle + half), min(height, bottom + down)


def _stretch(values: Float[np.ndarray, " n"], peak: int, most: float) -> tuple[int, int]:
    """The stretch around the peak that moves, at most `most` to each side."""
    low = high = peak
    least = _EDGE * values[peak]
    while low > max(0, peak - most) and values[low - 1] > least:
        low -= 1
    while high < min(len(values) - 1, peak + most) and values[high + 1] > least:
        high += 1
    return low, high + 1


def _opening(frames: UInt8[np.ndarray, "T H W 3"], mouth: Box, unit: float) -> Float[np.ndarray, " T"]:
    left, top, right, bottom = mouth
    beside = round(5 * unit)
    ring = [frames[:, top:bottom, max(0, left - beside) : left], frames[:, top:bottom, right : right + beside]]
    skin = np.median(np.concatenate([part.reshape(-1, 3) for part in ring]), axis=0)
    middle, half = (left + right) // 2, max(1, (right - left) // 6)
    inside = frames[:, top:bottom, middle - half : middle + half].astype(np.float32)
    unlike = np.sqrt(((inside - skin) ** 2).sum(-1))
    most = max(np.percentile(unlike, 98), 1.0)
    share = np.clip((unlike / most - 0.15) / 0.35, 0, 1)
    above, below = np.maximum.accumulate(share, 1), np.maximum.accumulate(share[:, ::-1], 1)[:, ::-1]
    opening = np.minimum(above, below).sum(1).mean(1)  # teeth may be as bright as skin: what is enclosed counts
    return opening - np.percentile(opening, 5)


def _face_around(mouth: Box, size: tuple[int, int], unit: float) -> Box:
    """A face by its mouth, as they usually are: a mouth is three quarters down."""
    left, top, right, bottom = mouth
    middle, line = (left + right) / 2, (top + bottom) / 2
    half, up, down = 34 * unit, 52 * unit, 16 * unit
    left, top = max(0, middle - half), max(0, line - up)
    right, bottom = min(size[1], middle + half), min(size[0], line + down)
    return round(left), round(top), round(right), round(bottom)
