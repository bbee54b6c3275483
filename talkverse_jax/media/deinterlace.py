"""Frames that were taken as two fields, made whole ones."""

from collections.abc import Iterator
from fractions import Fraction
from typing import NamedTuple

import av
import av.error
from av.filter import Graph


def deinterlaced(frames: Iterator[av.VideoFrame]) -> Iterator[av.VideoFrame]:
    """The same frames at the same times, by FFmpeg's filter `bwdif` where they say that they are interlaced.

    The filter looks at the frames before and after, so it is one frame late. Other frames stay as they are.
    """
    graph, before = None, None
    for frame in frames:
        if graph is None and not frame.interlaced_frame:
            yield frame
            before = frame
            continue
        if graph is None or graph.kind != _kind(frame):
            if graph is not None:
                yield from graph.rest()
            graph = _Bwdif(frame)
            if before is not None and _kind(before) == graph.kind:
                graph.push(before, shown=True)
            before = None
        yield from graph.push(frame)
    if graph is not None:
        yield from graph.rest()


class _Kind(NamedTuple):
    width: int
    height: int
    format: str


def _kind(frame: av.VideoFrame) -> _Kind:
    return _Kind(frame.width, frame.height, frame.format.name)


class _Bwdif:
    """The filter, for frames of one kind."""

    def __init__(self, frame: av.VideoFrame):
        self.kind = _kind(frame)
        self._shown = 0  # frames to come that were shown before
        self._graph = Graph()
        source = self._graph.add(
            "buffer",
            video_size=f"{frame.width}x{frame.height}",
            pix_fmt=frame.format.name,
            time_base=str(frame.time_base or Fraction(1, 1000)),
            colorspace=str(int(frame.colorspace)),
            range=str(int(frame.color_range)),
        )
        bwdif = self._graph.add("bwdif", mode="send_frame", deint="interlaced")
        self._graph.link_nodes(source, bwdif, self._graph.add("buffersink")).configure()

    def push(self, frame: av.VideoFrame | None, shown: bool = False) -> list[av.VideoFrame]:
        """Hand over a frame, or the end; returns what is ready."""
        self._shown += shown
        self._graph.vpush(frame)
        ready = []
        while True:
            try:
                ready.append(self._graph.vpull())
            except (av.error.BlockingIOError, av.error.EOFError):
                break
        skip = min(self._shown, len(ready))
        self._shown -= skip
        return ready[skip:]

    def rest(self) -> list[av.VideoFrame]:
        """What is ready at the end."""
        return self.push(None)
