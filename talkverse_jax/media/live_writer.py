"""Writing a video that is watched while it is made: a fragmented mp4 with sound in step, or bare frames.

The mp4 plays at any moment up to its last clip, also after a kill: it is H.264 without frames that wait for others, and
AAC, in fragments of a tenth of a second, as a browser's MediaSource takes them.

Shapes: T frames, H W pixels, n samples.
"""

from fractions import Fraction
from typing import Protocol

import av
import numpy as np
import soxr
from jaxtyping import Float32, UInt8

from talkverse_jax.media.frame_rate import FPS
from talkverse_jax.media.video_writer import set_colours, to_yuv

_FRAGMENT_SECONDS = 0.04  # at most so much of the sound is still in memory when a clip has been written
_KEYFRAME_SECONDS = 10  # seldom: each is seen as a twitch
_HEARD = 48_000  # Hz: the encoder's delay, which some players do not hide, is 21 ms there and 64 at 16 kHz
_AAC_SAMPLES = 1024


class Sink(Protocol):
    """Where bytes go: an open file, a pipe, or what sends them on."""

    def write(self, data: bytes, /) -> int | None: ...


class LiveWriter(Protocol):
    """Takes clip after clip."""

    def write(self, frames: UInt8[np.ndarray, "T H W 3"], sound: Float32[np.ndarray, " n"]) -> None:
        """Hand a clip and the sound that belongs to it to the sink."""
        ...

    def close(self) -> None:
        """Hand over what is left."""
        ...


class RawWriter:
    """Frames of three bytes a pixel, one behind the other, without their sound."""

    def __init__(self, sink: Sink):
        self._sink = sink

    def write(self, frames: UInt8[np.ndarray, "T H W 3"], sound: Float32[np.ndarray, " n"]) -> None:
        _all(self._sink, frames.tobytes())

    def close(self) -> None:
        """Nothing is left."""


class Mp4Writer:
    """A fragmented mp4.

    Args:
      size: (H, W), both even.
      rate: of the sound, in Hz.
    """

    def __init__(self, sink: Sink, size: tuple[int, int], rate: int):
        self._pipe = _Pipe(sink)
        self._container = av.open(
            self._pipe,
            "w",
            format="mp4",
            options={
                # as of `VideoWriter`
                "movflags": "delay_moov+default_base_moof",
                "frag_duration": str(round(_FRAGMENT_SECONDS * 1e6)),
                "flush_packets": "1",
                "max_interleave_delta": "1",
            },
        )
        options = {"preset": "veryfast", "tune": "zerolatency", "crf": "20", "g": str(_KEYFRAME_SECONDS * FPS)}
        self._video = self._container.add_stream("libx264", rate=FPS, options=options)
        self._video.height, self._video.width = size
        self._video.pix_fmt = "yuv420p"
        self._video.codec_context.time_base = Fraction(1, FPS)
        set_colours(self._video.codec_context)
        self._audio = self._container.add_stream("aac", rate=_HEARD)
        self._audio.layout, self._audio.bit_rate = "mono", 96_000
        self._container.start_encoding()
        self._resampler = soxr.ResampleStream(rate, _HEARD, 1, dtype="float32", quality="HQ")
        self._waiting = np.zeros(0, np.float32)
        self._frames = self._sounded = 0

    def write(self, frames: UInt8[np.ndarray, "T H W 3"], sound: Float32[np.ndarray, " n"]) -> None:
        for picture in frames:
            for packet in self._video.encode(to_yuv(picture, self._frames, FPS)):
                self._container.mux(packet)
            self._frames += 1
        self._hear(self._resampler.resample_chunk(sound))

    def close(self) -> None:
        self._container.mux(self._video.encode(None))
        self._hear(self._resampler.resample_chunk(np.zeros(0, np.float32), last=True))
        self._hear(np.zeros(-len(self._waiting) % _AAC_SAMPLES, np.float32))
        self._container.mux(self._audio.encode(None))
        self._container.close()

    def _hear(self, sound: Float32[np.ndarray, " n"]) -> None:
        self._waiting = np.concatenate([self._waiting, sound])
        while len(self._waiting) >= _AAC_SAMPLES:
            block, self._waiting = self._waiting[:_AAC_SAMPLES], self._waiting[_AAC_SAMPLES:]
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(block[None]), format="fltp", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = _HEARD, self._sounded, Fraction(1, _HEARD)
            self._container.mux(self._audio.encode(frame))
            self._sounded += _AAC_SAMPLES


class _Pipe:
    """What FFmpeg takes for a file that cannot be rewound."""

    def __init__(self, sink: Sink):
        self._sink = sink

    def write(self, data: bytes) -> int:
        _all(self._sink, bytes(data))
        return len(data)


def _all(sink: Sink, data: bytes) -> None:
    """Write all of it; an unbuffered file may take a part."""
    view = memoryview(data)
    while view:
        written = sink.write(bytes(view))
        view = view[len(view) if written is None else written :]
