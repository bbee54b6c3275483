"""Reading the sound that is to be spoken."""

import struct
from dataclasses import dataclass
from pathlib import Path

import av
import librosa
import numpy as np
from av.audio.stream import AudioStream
from jaxtyping import Float32

from talkverse_jax.core.errors import UserError
from talkverse_jax.data.media import absolute, open_media

FRAME_SECONDS = 0.04  # one video frame at 25 fps

# A peak of -80 dB: three steps of 16 bits. Dither and codecs leave less than that of silence.
_SILENT = 1e-4


@dataclass(frozen=True, eq=False)
class Sound:
    """A decoded sound: as the model hears it, and as the output file plays it.

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
      UserError: no such file, no sound in it, no samples, shorter than a video frame, or samples that are no
        numbers.
    """
    with open_media(path, "a sound") as container:
        if not container.streams.audio:
            raise UserError(f"{path}: has no sound; give a file with sound in it (wav, mp3, flac, m4a, mp4)")
        stream = container.streams.audio[0]
        promised = float(stream.duration * stream.time_base) if stream.duration else 0.0
        if container.format.name == "wav" and absolute(path).is_file():
            promised *= _wav_promise(absolute(path))  # FFmpeg's duration is of what is there
        native, native_rate, damaged = _decode(stream, path)
        if promised and container.format.name.startswith("mov"):  # mp4, m4a: the last packet is padded
            native = native[: round(promised * native_rate)]

    duration = len(native) / native_rate
    if duration < FRAME_SECONDS:
        raise UserError(
            f"{path}: {_seconds(duration)} long; one frame needs {FRAME_SECONDS} s, give a longer sound"
        )
    if not np.isfinite(native).all():
        first = np.argmin(np.isfinite(native).all(axis=1)) / native_rate
        raise UserError(f"{path}: holds values that are no numbers, at {_seconds(first)}; save it again")

    notices = []
    if damaged or duration < 0.98 * promised - FRAME_SECONDS:
        notices.append(
            f"{path}: damaged or cut short; of {_seconds(promised)} it promises, "
            f"the {_seconds(duration)} that could be decoded are used"
        )
    if np.abs(native).max() < _SILENT:
        notices.append(f"{path}: is silent; expect a mouth that hardly moves")

    mono = native.mean(axis=1)
    return Sound(
        samples=librosa.resample(mono, orig_sr=native_rate, target_sr=rate).astype(np.float32),
        rate=rate,
        native=native if native.shape[1] <= 2 else mono[:, None],
        native_rate=native_rate,
        notices=tuple(notices),
    )


def _decode(stream: AudioStream, path: str | Path) -> tuple[Float32[np.ndarray, "m channels"], int, bool]:
    """All samples of the stream, their rate, and whether some of it could not be decoded."""
    parts, formats, damaged = [], set(), False
    for packet in stream.container.demux(stream):
        try:
            frames = packet.decode()
        except av.error.InvalidDataError:  # the rest of a truncated file, or a hole: what follows may be fine
            damaged = True
            continue
        for frame in frames:
            formats.add((frame.sample_rate, frame.layout.nb_channels))
            parts.append(frame_samples(frame))
    if not parts:
        raise UserError(f"{path}: no sound could be decoded; give a file with sound in it")
    if len(formats) > 1:
        raise UserError(f"{path}: rate or channels change on the way {sorted(formats)}; save it as wav")
    [(rate, _)] = formats
    return np.concatenate(parts), rate, damaged


def frame_samples(frame: av.AudioFrame) -> Float32[np.ndarray, "n channels"]:
    """The samples of a decoded frame, integers scaled to [-1, 1]."""
    values = frame.to_ndarray()
    values = values.T if frame.format.is_planar else values.reshape(frame.samples, frame.layout.nb_channels)
    if values.dtype.kind == "f":
        return values.astype(np.float32)
    info = np.iinfo(values.dtype)
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
