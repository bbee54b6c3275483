"""Sound files made on the spot: packets at given times, headers that lie or say nothing, several streams."""

import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from jaxtyping import Float, Float32

_BLOCK = 1024


def tone(seconds: float, rate: int, hertz: float = 440.0, peak: float = 0.4) -> Float32[np.ndarray, " n"]:
    return (peak * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def pulses(seconds: float, rate: int, every: float = 0.25) -> Float32[np.ndarray, " n"]:
    """Short bursts that begin at 0.1 s and then every so often: their place can be told to a sample."""
    samples = np.zeros(round(seconds * rate), np.float32)
    for start in np.arange(0.1, seconds - 0.05, every):
        at = round(start * rate)
        length = round(0.02 * rate)
        samples[at : at + length] += 0.6 * np.hanning(length) * np.sin(2 * np.pi * 900 * np.arange(length) / rate)
    return samples


def offset(found: Float[np.ndarray, " n"], wanted: Float[np.ndarray, " m"], most: int = 4000) -> int:
    """By how many samples `found` is late, where both agree best."""
    length = min(len(found), len(wanted))
    size = 2 ** int(np.ceil(np.log2(2 * length)))
    spectrum = np.fft.rfft(found[:length], size) * np.conj(np.fft.rfft(wanted[:length], size))
    agreement = np.fft.irfft(spectrum, size)
    return int(np.argmax(np.concatenate([agreement[-most:], agreement[: most + 1]]))) - most


def decibels(samples: Float[np.ndarray, "..."]) -> float:
    """The root mean square, of 1."""
    return float(10 * np.log10(np.mean(np.square(samples, dtype=np.float64))))


def write_sound(
    path: str | Path,
    streams: Sequence[Float32[np.ndarray, "n channels"]] | Float32[np.ndarray, "n channels"],
    rate: int,
    codec: str = "pcm_f32le",
    layout: str = "",
    *,
    gaps: Sequence[tuple[float, float]] = (),
    start: float = 0.0,
    options: dict[str, str] | None = None,
    codec_options: dict[str, str] | None = None,
    languages: Sequence[str] = (),
) -> Path:
    """Write a sound, or several as the streams of one file. Returns its path.

    Args:
      layout: of the channels; mono or stereo by default.
      gaps: (after so many seconds of sound, by so many seconds what follows is later, or earlier).
      start: seconds of the file's clock at the first sample.
      options: of the file's format.
      codec_options: of the encoder.
    """
    streams = [streams] if isinstance(streams, np.ndarray) else streams
    with av.open(str(path), "w", options=options or {}) as container:
        made = []
        for number, samples in enumerate(streams):
            stream = container.add_stream(codec, rate=rate)
            stream.layout = layout or ("mono", "stereo")[samples.shape[1] - 1]
            stream.time_base = Fraction(1, rate)
            if languages:
                stream.metadata["language"] = languages[number]
            stream.codec_context.options = codec_options or {}
            made.append(stream)
        packets = [
            packet
            for stream, samples in zip(made, streams)
            for packet in _encoded(stream, samples, rate, gaps, round(start * rate))
        ]
        for packet in sorted(packets, key=lambda packet: packet.dts) if len(made) > 1 else packets:
            container.mux(packet)
    return Path(path)


def _encoded(stream: av.AudioStream, samples: np.ndarray, rate: int, gaps: Sequence[tuple[float, float]], start: int):
    planar, kind = stream.codec_context.format.is_planar, stream.codec_context.format.name
    values = samples
    if not kind.startswith(("flt", "dbl")):
        values = np.round(samples.astype(np.float64) * (2**31 - 1 if kind.startswith("s32") else 2**15 - 1))
    types = {"flt": np.float32, "dbl": np.float64, "s16": np.int16, "s32": np.int32}
    values = values.astype(types[kind.rstrip("p")])
    for first in range(0, len(samples), _BLOCK):
        block = values[first : first + _BLOCK]
        data = np.ascontiguousarray(block.T) if planar else np.ascontiguousarray(block).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(data, format=kind, layout=stream.layout.name)
        frame.sample_rate, frame.time_base = rate, Fraction(1, rate)
        frame.pts = start + first + sum(round(by * rate) for after, by in gaps if first >= after * rate)
        yield from stream.encode(frame)
    yield from stream.encode(None)


def wav_bytes(
    data: bytes, rate: int, channels: int, bits: int, kind: int = 1, *, align: int = 0, extra: bytes = b""
) -> bytes:
    """A wav file of that data.

    Args:
      kind: 1 for integers, 3 for floats.
      align: bytes of a sample of all channels; as many as the bits take by default.
      extra: of the format's chunk.
    """
    align = align or channels * bits // 8
    head = struct.pack("<HHIIHH", kind, channels, rate, rate * align, align, bits) + extra
    body = b"WAVEfmt " + struct.pack("<I", len(head)) + head + b"data" + struct.pack("<I", len(data)) + data
    return b"RIFF" + struct.pack("<I", len(body)) + body
