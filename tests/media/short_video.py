"""Short videos of given pictures, with whatever a file can say about them."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.codec.context import Flags
from av.filter import Graph


def write_pictures(
    path: str | Path,
    pictures: Sequence[np.ndarray],
    *,
    codec: str = "ffv1",
    format: str = "yuv444p",
    primaries: int = 1,
    transfer: int = 1,
    matrix: int = 1,
    full_range: bool = False,
    aspect: Fraction | None = None,
    fields: str | None = None,
    rate: int = 25,
    turned: tuple[int, bool] = (0, False),
) -> Path:
    """Write RGB or RGBA pictures of 8 or 16 bits.

    Args:
      format: FFmpeg's name of how pixels are stored.
      primaries, transfer, matrix: numbers of ITU-T H.273; 2 is not said.
      aspect: of a pixel, width over height.
      fields: "tff" or "bff" for interlaced pictures.
      turned: degrees anticlockwise by which they are shown turned, and whether they are mirrored before.
    """
    path = Path(path)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.height, stream.width = pictures[0].shape[:2]
        context = stream.codec_context
        stream.pix_fmt, context.time_base = format, Fraction(1, rate)
        context.color_primaries, context.color_trc, context.colorspace = primaries, transfer, matrix
        context.color_range = 2 if full_range else 1
        if codec == "libx264":
            context.options = {"preset": "veryfast", "qp": "4", "g": "8"}
        if codec == "libvpx":
            context.options = {"auto-alt-ref": "0"}  # it has no transparency otherwise
        if aspect is not None:
            context.sample_aspect_ratio = aspect
        if fields:
            context.flags |= Flags.interlaced_dct | Flags.interlaced_me
        if turned != (0, False):
            stream.set_display_rotation(turned[0], hflip=turned[1])
        for number, picture in enumerate(pictures):
            frame = _stored(np.ascontiguousarray(picture), format, matrix, full_range)
            if fields:
                frame = _in_fields(frame, fields)
            frame.pts, frame.time_base = number, Fraction(1, rate)
            frame.color_primaries, frame.color_trc = primaries, transfer
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def _stored(picture: np.ndarray, format: str, matrix: int, full_range: bool) -> av.VideoFrame:
    wide = {(3, 1): "rgb24", (4, 1): "rgba", (3, 2): "rgb48le"}[picture.shape[2], picture.itemsize]
    frame = av.VideoFrame.from_ndarray(picture, format=wide)
    if format.startswith(("rgb", "gbr", "bgr")):
        return frame.reformat(format=format)
    known = {1: 1, 2: 5, 5: 5, 6: 5, 9: 9, 14: 9}[matrix]  # FFmpeg's own numbers of matrices
    stored = frame.reformat(
        format=format,
        dst_colorspace=known,
        dst_color_range=2 if full_range else 1,
        interpolation="BICUBIC",
    )
    stored.colorspace, stored.color_range = matrix, 2 if full_range else 1
    return stored


def _in_fields(frame: av.VideoFrame, order: str) -> av.VideoFrame:
    frame.pts, frame.time_base = 0, Fraction(1, 25)
    graph = Graph()
    size, tags = f"{frame.width}x{frame.height}", {"colorspace": str(frame.colorspace), "range": str(frame.color_range)}
    source = graph.add("buffer", video_size=size, pix_fmt=frame.format.name, time_base="1/25", **tags)
    graph.link_nodes(source, graph.add("setfield", mode=order), graph.add("buffersink")).configure()
    graph.vpush(frame)
    return graph.vpull()
