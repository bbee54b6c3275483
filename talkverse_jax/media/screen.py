"""A video's decoded frames as they are meant to be seen: in ordinary colours, of square pixels, upright."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import av
import numpy as np
from av.container import InputContainer
from av.sidedata.sidedata import Type
from jaxtyping import UInt8
from PIL import Image

from talkverse_jax.core.errors import UserError
from talkverse_jax.media.bad_sample import BadSample
from talkverse_jax.media.colour import VIDEO, Colours, colours_of
from talkverse_jax.media.deinterlace import deinterlaced
from talkverse_jax.media.media import packets
from talkverse_jax.media.rgb import converter, to_rgb

# Encoders that round the shape of the picture write 1216:1215 and the like, and nobody sees it.
_NEARLY_SQUARE = 0.005
_STRANGEST = 4.0
# Of ITU-T H.273, in which 2 is what is not said: the matrices that FFmpeg converts from.
_MATRICES = (0, 1, 2, 4, 5, 6, 7, 9)
_UNSPECIFIED = 2
_LARGE = 720
_WITH_ALPHA = {"vp8": "libvpx", "vp9": "libvpx-vp9"}


class Screen:
    """Shows the frames of one video stream."""

    def __init__(self, stream: av.VideoStream):
        aspect = float(stream.sample_aspect_ratio or 1)
        if abs(aspect - 1) < _NEARLY_SQUARE or not 1 / _STRANGEST <= aspect <= _STRANGEST:
            aspect = 1.0
        self._aspect = stream.sample_aspect_ratio if aspect != 1 else None
        self._stretch = (max(1.0, 1 / aspect), max(1.0, aspect))

    def size(self, frame: av.VideoFrame) -> tuple[int, int]:
        """(H, W) of its picture."""
        height, width = self._square(frame)
        return (width, height) if _orientation(frame).transposed else (height, width)

    def stretch(self, frame: av.VideoFrame) -> tuple[float, float]:
        """(down, across), by which its pixels are stretched to be square ones; one of them is 1."""
        down, across = self._stretch
        return (across, down) if _orientation(frame).transposed else (down, across)

    def picture(self, frame: av.VideoFrame) -> UInt8[np.ndarray, "H W 3"]:
        """The frame as it is seen; where it is transparent, white shows through.

        Raises:
          BadSample: its colours cannot be told.
        """
        colours = _colours(frame)
        pixels = to_rgb(frame) if colours.ordinary else converter(colours, VIDEO)(frame)
        if (alpha := _alpha(frame)) is not None:
            alpha = alpha.astype(np.uint32)
            pixels = ((pixels * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)
        height, width = self._square(frame)
        if (height, width) != pixels.shape[:2]:
            pixels = np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC))
        orientation = _orientation(frame)
        pixels = pixels.swapaxes(0, 1) if orientation.transposed else pixels
        return pixels[:: -1 if orientation.upside_down else 1, :: -1 if orientation.mirrored else 1]

    def notes(self, frame: av.VideoFrame) -> tuple[str, ...]:
        """What is changed or assumed in showing it, a few words each.

        Raises:
          BadSample: its colours cannot be told.
        """
        notes, colours = [], _colours(frame)
        if not colours.ordinary:
            notes.append(colours.note)
        elif _guesses_matrix(frame):
            notes.append("no colour matrix given, BT.601 assumed")
        if frame.interlaced_frame:
            notes.append("interlaced, deinterlaced")
        if self._aspect is not None:
            notes.append(f"pixels of {self._aspect.numerator}:{self._aspect.denominator}, stretched to squares")
        if _alpha(frame) is not None:
            notes.append("transparent, laid on white")
        return tuple(notes)

    def _square(self, frame: av.VideoFrame) -> tuple[int, int]:
        """(H, W) with square pixels, as it is stored otherwise."""
        return round(frame.height * self._stretch[0]), round(frame.width * self._stretch[1])


def decoded(container: InputContainer, stream: av.VideoStream) -> Iterator[av.VideoFrame]:
    """The stream's frames from where the container stands, with their transparency.

    (FFmpeg's own decoder of VP8 and VP9 leaves it out.)
    """
    codec = stream.codec_context and stream.codec_context.name
    other = _WITH_ALPHA.get(codec) if stream.metadata.get("alpha_mode") == "1" else None
    if other is None:
        for packet in packets(container, stream):
            yield from packet.decode()
        return
    decoder: Any = av.CodecContext.create(other, "r")
    decoder.options = stream.codec_context.options
    for packet in packets(container, stream):
        yield from decoder.decode(packet if packet.size else None)


def video_frames(container: InputContainer) -> Iterator[tuple[float, UInt8[np.ndarray, "H W 3"]]]:
    """The frames of an open video in order of showing, as (seconds, picture).

    Raises:
      UserError: its colours cannot be told.
    """
    return ((frame.time, picture) for frame, picture in frames_and_pictures(container))


def frames_and_pictures(container: InputContainer) -> Iterator[tuple[av.VideoFrame, UInt8[np.ndarray, "H W 3"]]]:
    """The same with all that the file says of a frame.

    Raises:
      UserError: its colours cannot be told.
    """
    stream = container.streams.video[0]
    screen = Screen(stream)
    try:
        for frame in deinterlaced(decoded(container, stream)):
            yield frame, screen.picture(frame)
    except BadSample as error:
        raise UserError(f"{container.name}: {error.reason} ({error.detail}); convert it first") from None


def _colours(frame: av.VideoFrame) -> Colours:
    """Raises:
    BadSample: FFmpeg cannot tell what they are.
    """
    if not frame.format.is_rgb and frame.colorspace not in _MATRICES:
        raise BadSample("unusual colours", f"matrix {frame.colorspace} of ITU-T H.273")
    if frame.color_trc == frame.colorspace == _UNSPECIFIED and _has(frame, Type.DOVI_METADATA):
        raise BadSample("unusual colours", "Dolby Vision without a base layer")
    return colours_of(frame.color_primaries, frame.color_trc, frame.colorspace)


def _has(frame: av.VideoFrame, kind: Type) -> bool:
    try:
        return kind in frame.side_data
    except ValueError:  # among it is something that PyAV does not know
        return False


def _guesses_matrix(frame: av.VideoFrame) -> bool:
    """Whether the matrix might be another than BT.601's, which FFmpeg takes: players take BT.709's for large video."""
    coded = not frame.format.is_rgb and len(frame.format.components) >= 3
    return coded and frame.colorspace == _UNSPECIFIED and min(frame.height, frame.width) >= _LARGE


def _alpha(frame: av.VideoFrame) -> UInt8[np.ndarray, "H W 1"] | None:
    """None where nothing is transparent."""
    if not any(component.is_alpha for component in frame.format.components):
        return None
    alpha = to_rgb(frame, "rgba")[..., 3:]
    return None if (alpha == 255).all() else alpha


class _Orientation(NamedTuple):
    """How a stored picture is turned: rows and columns exchanged first, then their orders."""

    transposed: bool = False
    upside_down: bool = False
    mirrored: bool = False


_QUARTERS = (_Orientation(), _Orientation(True, True), _Orientation(False, True, True), _Orientation(True, False, True))


def _orientation(frame: av.VideoFrame) -> _Orientation:
    """By the frame's display matrix.

    It takes a stored place (x, y) to (a x + c y, b x + d y): a and b are its numbers 0 and 1, c and d 3 and 4. One
    that makes no quarter turn counts as the nearest that does.
    """
    try:
        side_data: Any = frame.side_data
        matrix = side_data[Type.DISPLAYMATRIX]
    except KeyError:
        return _Orientation()
    except ValueError:  # beside it lies something that PyAV does not know
        return _QUARTERS[round(frame.rotation / 90) % 4]
    a, b, _, c, d = np.frombuffer(bytes(matrix), np.int32)[:5].astype(float)
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return _Orientation(False, d < 0, a < 0)
    return _Orientation(True, b < 0, c < 0)
