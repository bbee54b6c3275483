"""What each person says, at one loudness and at its time, and what the video plays: all of them together.

Nothing of a sound is kept in memory; each pass decodes it again, a block at a time.

Shapes: n samples.
"""

import dataclasses
import functools
import math
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from jaxtyping import Float32

from talkverse_jax.core.options import NO_FILE
from talkverse_jax.families.multitalk.settings import AudioType
from talkverse_jax.media.audio import SoundFile, open_sound, resampled
from talkverse_jax.media.loudness import gain, loudness
from talkverse_jax.media.media import same_file
from talkverse_jax.media.sound_notices import seconds
from talkverse_jax.media.sound_stream import silence
from talkverse_jax.media.walls import LOCAL, Walls

HEARD = 16_000  # Hz: the rate of the model, by which all lengths are counted

_BLOCK = 1 << 16  # samples that are mixed at once
_SAFE = 0.9  # a sound at another rate, or one of two channels, may be louder than at 16 kHz and mono


@dataclasses.dataclass(frozen=True)
class Voice:
    """The sound of one person, with silence before it and behind.

    Attributes:
      sound: None of a person who says nothing.
      gain: that makes it as loud as the others.
      peak: the largest sample at 16 kHz, after the gain.
      before: samples of silence in front, at 16 kHz.
      length: samples in all, at 16 kHz.
    """

    sound: SoundFile | None
    gain: float
    peak: float
    before: int
    length: int

    @property
    def duration(self) -> float:
        """Seconds."""
        return self.length / HEARD

    def mono(self, rate: int) -> Iterator[Float32[np.ndarray, " n"]]:
        """The samples at `rate` Hz, as the model hears them."""
        parts = self.sound.mono(rate) if self.sound else ()
        yield from (block[:, 0] for block in self._placed((block[:, None] for block in parts), rate, 1))

    def native(self, rate: int, channels: int) -> Iterator[Float32[np.ndarray, "n channels"]]:
        """The samples at `rate` Hz, as the video plays them."""
        parts = resampled(self.sound.native(), self.sound.rate, rate) if self.sound else ()
        yield from self._placed((np.broadcast_to(part, (len(part), channels)) for part in parts), rate, channels)

    def _placed(
        self, parts: Iterable[Float32[np.ndarray, "n channels"]], rate: int, channels: int
    ) -> Iterator[Float32[np.ndarray, "n channels"]]:
        """The sound, made louder, between its silences; exactly as long as it should be."""
        left, before = (math.ceil(samples * rate / HEARD) for samples in (self.length, self.before))
        yield from silence(before, rate, channels)
        left -= before
        for part in parts:
            yield part[:left] * np.float32(self.gain)
            left = max(0, left - len(part))
        yield from silence(left, rate, channels)


@dataclasses.dataclass(frozen=True)
class Excerpt:
    """A part of a voice, as the model hears it.

    Attributes:
      begin, end: in seconds.
    """

    voice: Voice
    begin: float
    end: float

    @property
    def duration(self) -> float:
        """Seconds."""
        return self.end - self.begin

    @property
    def length(self) -> int:
        """Samples at 16 kHz."""
        return self._samples(HEARD)

    def mono(self, rate: int) -> Iterator[Float32[np.ndarray, " n"]]:
        """The samples at `rate` Hz."""
        drop, left = round(self.begin * rate), self._samples(rate)
        for block in self.voice.mono(rate):
            dropped, drop = min(drop, len(block)), max(0, drop - len(block))
            part = block[dropped : dropped + left]
            left -= len(part)
            yield part
            if not left:
                return

    def _samples(self, rate: int) -> int:
        return round(self.end * rate) - round(self.begin * rate)


@dataclasses.dataclass(frozen=True)
class Mix:
    """What the video plays: all voices at once.

    The original plays what the model hears, 16 kHz and mono. This has the same gains, and the highest rate and the most
    channels of the files.
    """

    voices: tuple[Voice, ...]

    @property
    def _sounds(self) -> list[SoundFile]:
        return [voice.sound for voice in self.voices if voice.sound]

    @property
    def rate(self) -> int:
        """In Hz."""
        return max(sound.rate for sound in self._sounds)

    @property
    def duration(self) -> float:
        """Seconds."""
        return max(voice.duration for voice in self.voices)

    @functools.cached_property
    def gain(self) -> float:
        """By which all is made quieter, where players would clip it: the loudest sample is 1 then."""
        if sum(voice.peak * voice.sound.channels for voice in self.voices if voice.sound) <= _SAFE:
            return 1.0  # for sure, so that nothing need be decoded again
        return 1 / max(1.0, max(float(np.abs(block).max(initial=0)) for block in self._sum()))

    def native(self) -> Iterator[Float32[np.ndarray, "n channels"]]:
        """The samples, in blocks."""
        for block in self._sum():
            yield np.clip(block * np.float32(self.gain), -1, 1)

    def _sum(self) -> Iterator[Float32[np.ndarray, "n channels"]]:
        channels = max(sound.channels for sound in self._sounds)
        streams = [_even(voice.native(self.rate, channels)) for voice in self.voices]
        for blocks in zip(*streams, strict=True):
            yield np.sum(blocks, axis=0)


def read_voices(
    paths: Sequence[str], audio_type: AudioType, walls: Walls = LOCAL, film: tuple[str, float] | None = None
) -> tuple[tuple[Voice, ...], list[str]]:
    """What each person says, all of one length, and lines to show the user.

    Each sound is decoded to its end twice: to be checked, and to hear how loud it is.

    Args:
      paths: of the people in their order; `NO_FILE` of one who says nothing. One names a file.
      audio_type: "para": all begin together; "add": one follows the other.
      film: the video that is followed, and the second of its clock when its first picture is shown: there it begins
        as a sound, too.

    Raises:
      UserError: a sound cannot be used.
    """
    since = {path: film[1] for path in paths if film and path != NO_FILE and same_file(path, film[0])}
    sounds = [None if path == NO_FILE else open_sound(path, since.get(path), walls) for path in paths]
    levels = [_levels(sound) if sound else (1.0, 0.0) for sound in sounds]
    lengths = [math.ceil(sound.length * HEARD / sound.rate) if sound else 0 for sound in sounds]
    total = sum(lengths) if audio_type == "add" else max(lengths)
    starts = np.cumsum([0, *lengths[:-1]]).tolist() if audio_type == "add" else [0] * len(lengths)
    voices = tuple(Voice(sound, *level, start, total) for sound, level, start in zip(sounds, levels, starts))
    notices = list(dict.fromkeys(notice for sound in sounds if sound for notice in sound.notices))
    if audio_type == "para":
        notices += [
            f"{path}: {seconds(length / HEARD)} long, silence is added up to the longest sound's "
            f"{seconds(total / HEARD)}"
            for path, length in zip(paths, lengths)
            if 0 < length < total
        ]
    if (made := Mix(voices).gain) < 1:
        notices.append(f"the sounds together would clip; the video plays them {-20 * math.log10(made):.1f} dB quieter")
    return voices, notices


def _levels(sound: SoundFile) -> tuple[float, float]:
    """The gain of a sound, and its peak with it."""
    peak = 0.0

    def heard() -> Iterator[Float32[np.ndarray, " n"]]:
        nonlocal peak
        for block in sound.mono(HEARD):
            peak = max(peak, float(np.abs(block).max(initial=0)))
            yield block

    found = gain(loudness(heard(), HEARD, str(sound.path)))
    return found, found * peak


def _even(blocks: Iterable[Float32[np.ndarray, "n channels"]]) -> Iterator[Float32[np.ndarray, "n channels"]]:
    """The same samples in blocks of one length; the last is shorter."""
    held: list[np.ndarray] = []
    count = 0
    for block in blocks:
        held, count = [*held, block], count + len(block)
        if count >= _BLOCK:
            whole = np.concatenate(held)
            for start in range(0, count - _BLOCK + 1, _BLOCK):
                yield whole[start : start + _BLOCK]
            held, count = [whole[count - count % _BLOCK :]], count % _BLOCK
    if count:
        yield np.concatenate(held)
