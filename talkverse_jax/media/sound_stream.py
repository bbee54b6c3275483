"""A file's sound as its packets' times place it: gaps are silence, and what is there twice is heard once."""

import math
from collections.abc import Iterator

import av
import av.error
import numpy as np
from av.container import InputContainer
from av.stream import Disposition
from jaxtyping import Float32

from talkverse_jax.core.errors import UserError
from talkverse_jax.media.downmix import downmix
from talkverse_jax.media.media import packets
from talkverse_jax.media.walls import LOCAL, Unusable, Walls

# FFmpeg's names of the files whose packets bring their times. In others they are counted, with errors that add up.
_TIMED = {"mov", "matroska", "webm", "avi", "mpegts", "mpeg", "flv", "asf", "ogg", "nut", "mxf", "rm"}

# Telephones and browsers write times that jitter by milliseconds: what follows on within this follows on exactly.
# It is less than a packet of any usual codec, so that none is lost unnoticed.
_JITTER = 0.010
_MOST_OVERLAP = 0.25
_PLANES = 7  # of more, PyAV 18 reads one that is not there
# Seconds of silence that are believed, in one place and in all: more is a clock that jumps.
LONGEST_GAP = 600.0
_MOST_SILENCE = 3600.0


def sound_stream(container: InputContainer) -> av.AudioStream | None:
    """The stream that is heard: the first that the file marks as its default, or else the first; of those that can
    be decoded."""
    streams = [stream for stream in container.streams.audio if stream.codec_context is not None]
    marked = (stream for stream in streams if stream.disposition & Disposition.default)
    return next(marked, streams[0] if streams else None)


class SoundStream:
    """The samples of an open file's sound from where the file stands, a packet's at a time.

    Attributes:
      stream: FFmpeg's.
      rates: all that were met, in Hz; rate: the first.
      channels: that come out, one or two: those of the first packet.
      start: the time of the first sample, in seconds of the file's clock; None where packets have none.
      damaged: packets that could not be decoded.
      filled: seconds of silence that stand in gaps; gap: where the first is, in seconds from the first sample.
      restarts: how often the clock jumped, and what came then was taken to follow on.
      mixes: what was done to the channels.
    """

    def __init__(self, container: InputContainer, path: object, walls: Walls = LOCAL):
        """Raises:
        UserError: the file has no sound, or none that can be decoded.
        """
        if not container.streams.audio:
            raise Unusable(f"{path}: has no sound; give a file with sound in it (wav, mp3, flac, m4a, mp4)")
        stream = sound_stream(container)
        if stream is None:
            raise UserError(f"{path}: its sound is of a kind that cannot be decoded; save it as 16-bit wav or mp3")
        self.stream = stream
        self._container, self._path, self._walls = container, path, walls
        self._timed = not _TIMED.isdisjoint(container.format.name.split(","))
        self.rates: set[int] = set()
        self.rate = self.channels = 0
        self.start: float | None = None
        self.damaged = self.restarts = 0
        self.filled, self.gap = 0.0, math.inf
        self.mixes: set[str] = set()

    def samples(self, until: float = math.inf) -> Iterator[Float32[np.ndarray, "n channels"]]:
        """Blocks that follow on one another.

        Args:
          until: no packet that begins after this second of the file's clock is decoded.
        """
        due = shift = 0  # the number of the next sample, counted from the first; where a clock was set anew
        for time, block in self._decoded(until):
            if not due:
                self.start = time
            elif time is not None and self.start is not None and self._timed:
                early = round((time - self.start) * self.rate) + shift - due
                if not self._believed(early / self.rate):
                    shift -= early
                    self.restarts += 1
                elif early > self._slack:
                    self.filled, self.gap = self.filled + early / self.rate, min(self.gap, due / self.rate)
                    due += early
                    yield from silence(early, self.rate, self.channels)
                elif early < -self._slack:
                    block = block[-early:]
            due += len(block)
            if len(block):
                yield block

    def _decoded(self, until: float) -> Iterator[tuple[float | None, Float32[np.ndarray, "n channels"]]]:
        """Each frame's time and samples."""
        for packet in packets(self._container, self.stream):
            if until < math.inf and packet.pts is not None and packet.pts * float(packet.time_base or 0) > until:
                return
            try:
                frames = packet.decode()
            except av.error.InvalidDataError:  # the rest of a truncated file, or a hole: what follows may be fine
                self.damaged += 1
                continue
            for frame in frames:
                self._walls.check_sound(self._path, frame.sample_rate, frame.layout.nb_channels)
                if not self.rates:
                    self.rate, self.channels = frame.sample_rate, downmix(frame.layout).channels
                self.rates.add(frame.sample_rate)
                if len(self.rates) == 1 and frame.samples:
                    yield frame.time, self._mixed(frame)

    def _mixed(self, frame: av.AudioFrame) -> Float32[np.ndarray, "n channels"]:
        samples, mix = frame_samples(frame), downmix(frame.layout)
        if mix.said:
            self.mixes.add(mix.said)
            samples = samples @ mix.weights
        if mix.channels != self.channels:
            self.mixes.add(f"goes from {self.channels} to {mix.channels} channels on the way; the first number is kept")
            samples = np.repeat(samples.mean(axis=1, keepdims=True), self.channels, axis=1)
        return samples

    def _believed(self, gap: float) -> bool:
        """Whether so many seconds of silence are true; fewer than none are an overlap."""
        return -_MOST_OVERLAP <= gap <= min(LONGEST_GAP, _MOST_SILENCE - self.filled)

    @property
    def _slack(self) -> float:
        """Samples by which a time may be off."""
        unit = float(self.stream.time_base or 0)
        return max(_JITTER, 2 * unit) * self.rate


def silence(length: int, rate: int, channels: int) -> Iterator[Float32[np.ndarray, "n channels"]]:
    """So many samples, in blocks of a second."""
    for done in range(0, length, rate):
        yield np.zeros((min(rate, length - done), channels), np.float32)


def frame_samples(frame: av.AudioFrame) -> Float32[np.ndarray, "n channels"]:
    """The samples of a decoded frame, integers scaled to [-1, 1]; infinite what float32 cannot hold."""
    if frame.format.is_planar and frame.layout.nb_channels > _PLANES:
        [frame] = av.AudioResampler(frame.format.packed.name, frame.layout, frame.sample_rate).resample(frame)
    values = frame.to_ndarray()
    values = values.T if frame.format.is_planar else values.reshape(frame.samples, frame.layout.nb_channels)
    if values.dtype.kind == "f":
        with np.errstate(over="ignore"):
            return values.astype(np.float32)
    info = np.iinfo(values.dtype.name)
    middle = 128 if info.min == 0 else 0  # 8-bit sound is unsigned
    return (values.astype(np.float32) - middle) / np.float32(2.0 ** (info.bits - 1))
