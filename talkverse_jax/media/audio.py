"""Reading the sound that is to be spoken: whole, or block by block in memory that does not grow with its length."""

import math
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soxr
from av.container import InputContainer
from av.stream import Disposition
from jaxtyping import Float32

from talkverse_jax.core import files
from talkverse_jax.core.errors import UserError
from talkverse_jax.media.child import reading
from talkverse_jax.media.media import open_media
from talkverse_jax.media.sound_notices import about_choice, about_damage, about_loudness, about_times, seconds
from talkverse_jax.media.sound_promise import promised_seconds
from talkverse_jax.media.sound_stream import LONGEST_GAP, SoundStream, silence
from talkverse_jax.media.walls import LOCAL, Unusable, Walls

FRAME_SECONDS = 0.04  # one video frame at 25 fps

# Floats above 1: players clip what is a little louder. More is a recorder's headroom, or integers written as floats;
# above the largest integer it is no sound.
_HEADROOM = 2.0
LOUDEST = 2.0**31


@dataclass(frozen=True)
class SoundFile:
    """A sound that was decoded once to the end, and can be so again, a block at a time.

    Attributes:
      rate: of the file, in Hz.
      channels: of `native`: one or two; surround is mixed down.
      length: in samples at `rate`.
      notices: lines to show the user: what is assumed, changed or damaged.
      lead: samples of the file left out in front; fewer than none for so much silence instead.
      gain: by which all is multiplied.
      walls: what was let in.
    """

    path: str | Path
    rate: int
    channels: int
    length: int
    notices: tuple[str, ...]
    lead: int = 0
    gain: float = 1.0
    walls: Walls = LOCAL

    @property
    def duration(self) -> float:
        """Seconds."""
        return self.length / self.rate

    def samples_at(self, rate: int) -> int:
        """How many samples `mono` gives."""
        return math.ceil(self.length * rate / self.rate)

    def native(self) -> Iterator[Float32[np.ndarray, "n channels"]]:
        """The samples as the output file plays them."""
        left = self.length
        for block in self._from_lead():
            block = block[:left]
            left -= len(block)
            yield block if self.gain == 1 else block * np.float32(self.gain)

    def mono(self, rate: int) -> Iterator[Float32[np.ndarray, " n"]]:
        """The samples as the model hears them, at `rate` Hz; together those of `librosa.load(path, sr=rate)`."""
        left = self.samples_at(rate)
        for block in resampled((block.mean(axis=1) for block in self.native()), self.rate, rate):
            yield block[:left]
            left = max(0, left - len(block))
        yield np.zeros(left, np.float32)

    def _from_lead(self) -> Iterator[Float32[np.ndarray, "n channels"]]:
        drop = max(0, self.lead)
        yield from silence(-self.lead, self.rate, self.channels)
        with reading(_blocks, str(self.path), self.walls) as blocks:
            for block in blocks:
                dropped, drop = min(drop, len(block)), max(0, drop - len(block))
                yield block[dropped:]


def _blocks(path: str, walls: Walls) -> Generator[Float32[np.ndarray, "n channels"], None, None]:
    """What can be decoded of a sound, from its first sample on."""
    with open_media(path, "a sound", walls) as container:
        yield from SoundStream(container, path, walls).samples()


@dataclass(frozen=True, eq=False)
class Sound:
    """A decoded sound in memory: as the model hears it, and as the output file plays it.

    Attributes:
      samples: mono, at `rate` Hz, in [-1, 1].
      native: one or two channels as the file has them, at `native_rate` Hz; surround is mixed down.
      notices: as of `SoundFile`.
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


def read_audio(path: str | Path, rate: int = 16000, since: float | None = None) -> Sound:
    """Decode a sound, or the sound of a video, and resample it; equals `librosa.load(path, sr=rate)` on wav.

    Args:
      rate: of `samples`, in Hz.
      since: as of `open_sound`.

    Raises:
      UserError: as of `open_sound`.
    """
    file = open_sound(path, since)
    samples, native = np.concatenate(list(file.mono(rate))), np.concatenate(list(file.native()))
    return Sound(samples, rate, native, file.rate, file.notices)


def open_sound(path: str | Path, since: float | None = None, walls: Walls = LOCAL) -> SoundFile:
    """Check a sound, or the sound of a video, by decoding it.

    Args:
      since: the second of the file's clock at which it begins, such as that of a video's first picture; by
        default where the file does: with its first sample, or its first picture if that is earlier.
      walls: what is let in.

    Raises:
      UserError: no such file, of a kind that is not let in, no sound in it, no samples, shorter than a video frame or
        longer than is let in, or samples that are no sound.
    """
    with reading(_checked, str(path), walls, since) as pieces:
        rate, channels, length, notices, lead, gain = next(pieces)
    return SoundFile(path, rate, channels, length, tuple(notices), lead, gain, walls)


def _checked(path: str, walls: Walls, since: float | None) -> Generator[tuple, None, None]:
    """Yields rate, channels, length, notices, lead and gain of a `SoundFile`."""
    with open_media(path, "a sound", walls) as container:
        stream = SoundStream(container, path, walls)
        walls.check_seconds(path, _promised(path, container, stream, 0.0), "sound")
        length, peak = _measured(stream, path, walls)
        if not length:
            raise Unusable(f"{path}: no sound could be decoded; give a file with sound in it")
        rate, start = stream.rate, stream.start or 0.0
        if len(stream.rates) > 1:
            raise UserError(f"{path}: its rate changes on the way {sorted(stream.rates)}; save it as wav")
        length = _without_padding(container, stream, length)
        begin = min(start, _first_picture(container)) if since is None else since
        promised = _promised(path, container, stream, length / rate)
        loud = peak > _HEADROOM and stream.stream.codec_context.name.startswith("pcm_f")
        gain = 1 / peak if loud else 1.0
        notices = (
            *about_choice(container, stream.stream),
            *sorted(stream.mixes),
            *about_times(stream, start - begin),
            *about_damage(stream, length / rate, promised),
            *about_loudness(peak, gain),
        )
    found, lead = seconds(length / rate), round((begin - start) * rate)
    if length / rate < FRAME_SECONDS:
        raise Unusable(f"{path}: {found} long; one frame needs {FRAME_SECONDS} s, give a longer sound")
    if lead >= length:
        raise Unusable(f"{path}: its sound ends before its pictures begin; give another sound")
    if -lead > LONGEST_GAP * rate:
        raise UserError(f"{path}: its sound begins {seconds(start - begin)} after its pictures; give another sound")
    said = [f"{path}: {notice}" for notice in notices]
    yield rate, stream.channels, length - lead, said, lead, gain


def _promised(path: str, container: InputContainer, stream: SoundStream, found: float) -> float:
    """As `promised_seconds`."""
    if files.is_remote(path):
        return promised_seconds(container, stream.stream, None, found)
    with files.open_regular(path, "a sound") as opened:
        return promised_seconds(container, stream.stream, opened, found)


def _measured(stream: SoundStream, path: str, walls: Walls) -> tuple[int, float]:
    """The length in samples, and the peak. What is longer than is let in is not decoded to its end."""
    length, peak = 0, 0.0
    for block in stream.samples():
        loudest = float(np.abs(block).max())
        if not loudest <= LOUDEST:  # also where it is no number
            first = np.argmin((np.abs(block) <= LOUDEST).all(axis=1))
            where = seconds((length + first) / stream.rate)
            what = "values that are no numbers" if not np.isfinite(block).all() else f"values above {LOUDEST:.0e}"
            raise UserError(f"{path}: holds {what}, at {where}; save it again")
        length, peak = length + len(block), max(peak, loudest)
        walls.check_seconds(path, length / stream.rate, "sound")
    return length, peak


def _without_padding(container: InputContainer, stream: SoundStream, length: int) -> int:
    """Of mp4 and m4a the header tells where the sound ends; the last packet goes on behind that."""
    found = stream.stream
    if not container.format.name.startswith("mov") or not found.duration or not found.time_base:
        return length
    end = float((found.start_time or 0) * found.time_base) + float(found.duration * found.time_base)
    return min(length, max(1, round((end - (stream.start or 0.0)) * stream.rate)))


def _first_picture(container: InputContainer) -> float:
    """When a film begins, in seconds of the file's clock; infinity where there is none, such as beside a cover."""
    starts = [
        float(stream.start_time * stream.time_base)
        for stream in container.streams.video
        if not stream.disposition & Disposition.attached_pic
        and stream.start_time is not None
        and stream.time_base is not None
    ]
    return min(starts, default=math.inf)


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
