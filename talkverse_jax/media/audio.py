"""Reading the sound that is to be spoken: whole, or block by block in memory that does not grow with its length."""

import math
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import av.error
import numpy as np
import soxr
from av.container import InputContainer
from jaxtyping import Float32

from talkverse_jax.core.errors import UserError
from talkverse_jax.media.media import absolute, open_media

FRAME_SECONDS = 0.04  # one video frame at 25 fps

# A peak of -80 dB: three steps of 16 bits. Dither and codecs leave less than that of silence.
_SILENT = 1e-4


@dataclass(frozen=True)
class SoundFile:
    """A sound that was decoded once to the end, and can be so again, a block at a time.

    Attributes:
      rate: of the file, in Hz.
      channels: of `native`: one or two; one where the file has more.
      length: in samples at `rate`.
      notices: lines to show the user: silence, damage.
      lead: samples of the file left out in front; fewer than none for so much silence instead.
    """

    path: str | Path
    rate: int
    channels: int
    length: int
    notices: tuple[str, ...]
    lead: int = 0

    @property
    def duration(self) -> float:
        """Seconds."""
        return self.length / self.rate

    def native(self) -> Iterator[Float32[np.ndarray, "n channels"]]:
        """The samples as the file has them, which the output file plays."""
        left = self.length
        for block in self._from_lead():
            block = block[:left] if block.shape[1] <= 2 else block[:left].mean(axis=1, keepdims=True)
            left -= len(block)
            yield block

    def mono(self, rate: int) -> Iterator[Float32[np.ndarray, " n"]]:
        """The samples as the model hears them, at `rate` Hz; together those of `librosa.load(path, sr=rate)`."""
        left = math.ceil(self.length * rate / self.rate)
        for block in resampled((block.mean(axis=1) for block in self.native()), self.rate, rate):
            yield block[:left]
            left = max(0, left - len(block))
        yield np.zeros(left, np.float32)

    def _from_lead(self) -> Iterator[Float32[np.ndarray, "n channels"]]:
        drop = max(0, self.lead)
        if self.lead < 0:
            yield np.zeros((-self.lead, self.channels), np.float32)
        with open_media(self.path, "a sound") as container:
            for block in _Decoder(container):
                dropped, drop = min(drop, len(block)), max(0, drop - len(block))
                yield block[dropped:]


@dataclass(frozen=True, eq=False)
class Sound:
    """A decoded sound in memory: as the model hears it, and as the output file plays it.

    Attributes:
      samples: mono, at `rate` Hz, in [-1, 1].
      native: one or two channels as the file has them, at `native_rate` Hz; mono where it has more.
      notices: lines to show the user: silence, damage.
    """

    samples: Float32[np.ndarray, "n"]
    rate: int
    native: Float32[np.ndarray, "m channels"]
    native_rate: int
    notices: tuple[str, ...]

    @property
    def duration(self) -> float:
        """Seconds."""
        return len(self.native) / self.native_rate


def read_audio(path: str | Path, rate: int = 16000) -> Sound:
    """Decode a sound, or the sound of a video, and resample it; equals `librosa.load(path, sr=rate)` on wav.

    Args:
      rate: of `samples`, in Hz.

    Raises:
      UserError: as of `open_sound`.
    """
    file = open_sound(path)
    samples, native = np.concatenate(list(file.mono(rate))), np.concatenate(list(file.native()))
    return Sound(samples, rate, native, file.rate, file.notices)


def open_sound(path: str | Path, since: float | None = None) -> SoundFile:
    """Check a sound, or the sound of a video, by decoding it.

    Args:
      since: the second of the file's clock at which it begins, such as that of a video's first picture; by
        default where the first sample is.

    Raises:
      UserError: no such file, no sound in it, no samples, shorter than a video frame, or samples that are no
        numbers.
    """
    with open_media(path, "a sound") as container:
        if not container.streams.audio:
            raise UserError(f"{path}: has no sound; give a file with sound in it (wav, mp3, flac, m4a, mp4)")
        stream = container.streams.audio[0]
        promised = float(stream.duration * stream.time_base) if stream.duration and stream.time_base else 0.0
        if container.format.name == "wav" and absolute(path).is_file():
            promised *= _wav_promise(absolute(path))  # FFmpeg's duration is of what is there
        padded = container.format.name.startswith("mov")  # mp4, m4a: the last packet is
        decoder, length, peak = _Decoder(container), 0, 0.0
        for block in decoder:
            if not np.isfinite(block).all():
                first = length + np.argmin(np.isfinite(block).all(axis=1))
                where = _seconds(first / decoder.rate)
                raise UserError(f"{path}: holds values that are no numbers, at {where}; save it again")
            length, peak = length + len(block), max(peak, np.abs(block).max(initial=0.0))
    if not length:
        raise UserError(f"{path}: no sound could be decoded; give a file with sound in it")
    if len(decoder.formats) > 1:
        raise UserError(f"{path}: rate or channels change on the way {sorted(decoder.formats)}; save it as wav")
    rate = decoder.rate
    if promised and padded:
        length = min(length, round(promised * rate))
    duration = length / rate
    if duration < FRAME_SECONDS:
        raise UserError(f"{path}: {_seconds(duration)} long; one frame needs {FRAME_SECONDS} s, give a longer sound")
    notices = []
    if decoder.damaged or duration < 0.98 * promised - FRAME_SECONDS:
        notices.append(
            f"{path}: damaged or cut short; of {_seconds(promised)} it promises, "
            f"the {_seconds(duration)} that could be decoded are used"
        )
    if peak < _SILENT:
        notices.append(f"{path}: is silent; expect a mouth that hardly moves")
    lead = 0 if since is None else round((since - decoder.start) * rate)
    if lead >= length:
        raise UserError(f"{path}: its sound ends before its pictures begin; give another sound")
    channels = decoder.channels if decoder.channels <= 2 else 1
    return SoundFile(path, rate, channels, length - lead, tuple(notices), lead)


def resampled(
    blocks: Iterable[Float32[np.ndarray, "n *channels"]], rate: int, target: int
) -> Iterator[Float32[np.ndarray, "n *channels"]]:
    """The sound at another rate, in blocks; together they are what `librosa.resample` makes of the whole."""
    if rate == target:
        yield from blocks
        return
    stream, end = None, np.zeros(0, np.float32)
    for block in blocks:
        if stream is None:
            channels = block.shape[1] if block.ndim == 2 else 1
            stream = soxr.ResampleStream(rate, target, channels, dtype="float32", quality="HQ")
            end = block[:0].astype(np.float32)
        yield stream.resample_chunk(block.astype(np.float32))
    if stream is not None:
        yield stream.resample_chunk(end, last=True)


class _Decoder:
    """The samples of an open file's first sound stream, a packet's at a time.

    Attributes:
      formats: all (rate, channels) that were met; rate, channels: the first.
      start: the time of the first sample, in seconds of the file's clock.
      damaged: whether some of it could not be decoded.
    """

    def __init__(self, container: InputContainer):
        self._container = container
        self.formats: set[tuple[int, int]] = set()
        self.rate = self.channels = 0
        self.start, self.damaged = 0.0, False

    def __iter__(self) -> Iterator[Float32[np.ndarray, "n channels"]]:
        for packet in self._container.demux(self._container.streams.audio[0]):
            try:
                frames = packet.decode()
            except av.error.InvalidDataError:  # the rest of a truncated file, or a hole: what follows may be fine
                self.damaged = True
                continue
            for frame in frames:
                found = frame.sample_rate, frame.layout.nb_channels
                if not self.formats:
                    (self.rate, self.channels), self.start = found, frame.time or 0.0
                self.formats.add(found)
                if len(self.formats) == 1:
                    yield frame_samples(frame)


def frame_samples(frame: av.AudioFrame) -> Float32[np.ndarray, "n channels"]:
    """The samples of a decoded frame, integers scaled to [-1, 1]."""
    values = frame.to_ndarray()
    values = values.T if frame.format.is_planar else values.reshape(frame.samples, frame.layout.nb_channels)
    if values.dtype.kind == "f":
        return values.astype(np.float32)
    info = np.iinfo(values.dtype.name)
    middle = 128 if info.min == 0 else 0  # 8-bit sound is unsigned
    return (values.astype(np.float32) - middle) / np.float32(2.0 ** (info.bits - 1))


def _wav_promise(path: Path) -> float:
    """How many times its own size a wav file should have, by its header."""
    with path.open("rb") as file:
        kind, size = struct.unpack("<4sI", file.read(8))
    streamed = kind != b"RIFF" or size in (0, 2**32 - 1)  # by a program that could not know
    return 1.0 if streamed else max(1.0, (8 + size) / path.stat().st_size)


def _seconds(value: float) -> str:
    return f"{value:.2f} s"
