"""A sound as a file of a format that programs ask for.

Shapes: n samples.
"""

import io
from dataclasses import dataclass
from typing import Literal, cast

import av
import numpy as np
import soxr
from av.audio.stream import AudioStream
from av.container import Flags
from jaxtyping import Float32, Int16

from talkverse_jax.helpers.speech.engine import Utterance

FormatName = Literal["mp3", "opus", "aac", "flac", "wav", "pcm"]
PCM_RATE = 24_000  # Hz


@dataclass(frozen=True)
class SoundFormat:
    """How a sound is written.

    Attributes:
      media_type: over HTTP.
      container, codec: FFmpeg's names; "" of bare samples.
      rate: in Hz; None to keep the sound's own.
      sample: how the encoder takes samples.
      bit_rate: of a lossy one.
    """

    media_type: str
    container: str = ""
    codec: str = ""
    rate: int | None = None
    sample: str = "s16"
    bit_rate: int | None = None


FORMATS: dict[FormatName, SoundFormat] = {
    "mp3": SoundFormat("audio/mpeg", "mp3", "libmp3lame", 24_000, "s16p", 64_000),
    "opus": SoundFormat("audio/ogg", "ogg", "libopus", 48_000, "s16", 32_000),
    "aac": SoundFormat("audio/aac", "adts", "aac", 24_000, "fltp", 64_000),
    "flac": SoundFormat("audio/flac", "flac", "flac"),
    "wav": SoundFormat("audio/wav", "wav", "pcm_s16le"),
    "pcm": SoundFormat("audio/pcm", rate=PCM_RATE),
}


def encode(sound: Utterance, name: FormatName) -> bytes:
    """The bytes of a file, mono; of `pcm` bare samples at 24 kHz, 16 bits, little-endian."""
    made = FORMATS[name]
    rate = made.rate or sound.rate
    samples = _whole(_at(sound, rate))
    if not made.codec:
        return samples.astype("<i2").tobytes()
    file = io.BytesIO()
    with av.open(file, "w", format=made.container) as container:
        container.flags |= Flags.bitexact.value  # no version of FFmpeg in it
        stream = cast(AudioStream, container.add_stream(made.codec, rate=rate, layout="mono"))
        stream.format = made.sample  # pyright: ignore[reportAttributeAccessIssue]  # PyAV takes a name too
        if made.bit_rate:
            stream.bit_rate = made.bit_rate
        frame = av.AudioFrame.from_ndarray(samples[None], format="s16", layout="mono")
        frame.sample_rate, frame.pts = rate, 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()


def _at(sound: Utterance, rate: int) -> Float32[np.ndarray, " n"]:
    if rate == sound.rate:
        return sound.samples
    return soxr.resample(sound.samples.astype(np.float32), sound.rate, rate).astype(np.float32)


def _whole(samples: Float32[np.ndarray, " n"]) -> Int16[np.ndarray, " n"]:
    return np.clip(np.round(samples * 32768), -32768, 32767).astype(np.int16)
