"""Where live sound comes from: a pipe, a file at its own speed, a microphone. Each gives blocks as they come.

Shapes: n samples, mono.
"""

import io
import itertools
import struct
import sys
import time
from collections.abc import Callable, Iterator
from typing import Protocol

import av
import av.error
import numpy as np
from jaxtyping import Float32

from talkverse_jax.core.errors import UserError
from talkverse_jax.media.audio import open_sound, resampled
from talkverse_jax.media.sound_stream import frame_samples
from talkverse_jax.media.walls import LOCAL, Walls

_BLOCK_SECONDS = 0.04
_HEAD = 12  # bytes of a wav before its chunks
_MOST_CHUNK = 1 << 20  # bytes of a chunk before the samples

# FFmpeg's name of a platform's sound devices, and of the first of them.
_DEVICES = {"linux": ("alsa", "default"), "darwin": ("avfoundation", ":0"), "win32": ("dshow", "audio=Microphone")}

Blocks = Iterator[Float32[np.ndarray, " n"]]


class Pipe(Protocol):
    """Bytes that come in parts of any length; none at the end."""

    def read(self, size: int, /) -> bytes | None: ...


def pipe_sound(pipe: Pipe, rate: int, target: int) -> Blocks:
    """Sound on a pipe: 16-bit little-endian mono at `rate` Hz, or a wav of 16-bit samples, which says what it is.

    Args:
      pipe: unbuffered, so that nothing waits in it.
      target: rate of what comes out, in Hz.

    Raises:
      UserError: a wav of another kind.
    """
    reader = _Reader(pipe)
    channels = 1
    if (begin := reader.exactly(4)) == b"RIFF":
        rate, channels = _wav_head(reader)
        begin = b""
    yield from _resampled(_samples(begin, reader, rate, channels), rate, target)


def paced_sound(path: str, target: int, walls: Walls = LOCAL) -> Callable[[], Blocks]:
    """A file's sound at its own speed, from when it is asked for.

    Raises:
      UserError: it cannot be used.
    """
    sound = open_sound(path, walls=walls)

    def blocks() -> Blocks:
        begun, done, size = time.monotonic(), 0, round(target * _BLOCK_SECONDS)
        for block in sound.mono(target):
            for start in range(0, len(block), size):
                part = block[start : start + size]
                done += len(part)
                time.sleep(max(0.0, begun + done / target - time.monotonic()))
                yield part

    return blocks


def microphone_sound(target: int, device: str | None = None) -> Blocks:
    """What a microphone hears.

    Args:
      device: FFMPEG_FORMAT:NAME, such as alsa:hw:1; by default the first of the system.

    Raises:
      UserError: there is none, or this build of FFmpeg cannot open it.
    """
    kind, name = _DEVICES.get(sys.platform, ("", "")) if device is None else device.split(":", 1)
    try:
        container = av.open(name, format=kind)
    except (av.error.FFmpegError, ValueError) as error:
        raise UserError(
            f"microphone: {kind} {name} cannot be opened ({error}); pipe its sound in instead, such as: "
            f"arecord -q -t raw -f S16_LE -c 1 -r {target} | talkverse-jax stream --sound - ..."
        ) from None
    with container:
        rate = container.streams.audio[0].rate
        yield from _resampled((frame_samples(frame).mean(axis=1) for frame in container.decode(audio=0)), rate, target)


def _resampled(blocks: Blocks, rate: int, target: int) -> Blocks:
    for block in resampled(blocks, rate, target):
        yield np.asarray(block, np.float32)


class _Reader:
    """A pipe read to an exact length where that is needed."""

    def __init__(self, pipe: Pipe):
        self._pipe = pipe

    def some(self, size: int) -> bytes:
        """What is there, at most `size`; nothing at the end."""
        return self._pipe.read(size) or b""

    def exactly(self, size: int) -> bytes:
        """So many bytes, or those to the end."""
        found = io.BytesIO()
        while (missing := size - found.tell()) and (part := self.some(missing)):
            found.write(part)
        return found.getvalue()


def _wav_head(reader: _Reader) -> tuple[int, int]:
    """Rate and channels of a wav whose first four bytes were read."""
    if reader.exactly(_HEAD - 4)[4:] != b"WAVE":
        raise UserError("sound: begins like a wav and is none; send 16-bit samples, or a wav of these")
    rate = channels = 0
    for _ in itertools.repeat(None, 100):
        name, size = struct.unpack("<4sI", reader.exactly(8).ljust(8, b"\0"))
        if name == b"data" and rate:
            return rate, channels
        if size > _MOST_CHUNK or not name.strip(b"\0"):
            break
        chunk = reader.exactly(size + size % 2)
        if name == b"fmt " and len(chunk) >= 16:
            _, channels, rate, _, _, bits = struct.unpack_from("<HHIIHH", chunk)
            if bits != 16 or channels not in (1, 2):
                raise UserError(f"sound: a wav of {channels} channels of {bits} bits; send 16 bits, mono or stereo")
    raise UserError("sound: a wav without samples; send 16-bit samples, or a wav of these")


def _samples(begin: bytes, reader: _Reader, rate: int, channels: int) -> Blocks:
    """The samples behind the head, as they come."""
    whole, held = 2 * channels, begin
    while part := reader.some(max(whole, round(rate * _BLOCK_SECONDS) * whole)):
        held += part
        usable = len(held) - len(held) % whole
        block = np.frombuffer(held[:usable], "<i2").reshape(-1, channels).mean(axis=1, dtype=np.float32)
        held = held[usable:]
        yield block / np.float32(1 << 15)
