"""Reading parts of a video: its pictures at given times, whatever its rate, and its sound by its own clock.

All times are seconds of the file's clock, which pictures and sound share. Only what is needed is decoded: from
the keyframe before the first picture to the picture after the last.
"""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction

import av
import av.error
import av.stream
import librosa
import numpy as np
from av.container import InputContainer
from jaxtyping import Float, Float32, UInt8

from talkverse_jax.core import files
from talkverse_jax.core.errors import UserError
from talkverse_jax.media.audio import LOUDEST
from talkverse_jax.media.bad_sample import BadSample
from talkverse_jax.media.deinterlace import deinterlaced
from talkverse_jax.media.fit import cover
from talkverse_jax.media.frame_rate import FPS
from talkverse_jax.media.media import open_media, packets
from talkverse_jax.media.screen import Screen, decoded
from talkverse_jax.media.sound_notices import about_header
from talkverse_jax.media.sound_stream import SoundStream
from talkverse_jax.media.walls import LOCAL, Walls

SAMPLE_RATE = 16000
SAMPLES_A_FRAME = SAMPLE_RATE // FPS

# Some containers round times to milliseconds. (1 ms would show frame 30 of 29.97 fps at 1.000 s, 1 ms early.)
_EPSILON = 6e-4
# Sound decoded on both sides of what is asked for: decoders and the resampling filter need some to settle.
_MARGIN = 1.0
_SILENT = 1e-6


Bring = Callable[[UInt8[np.ndarray, "h w 3"], tuple[int, int]], UInt8[np.ndarray, "H W 3"]]


@dataclass(frozen=True)
class Probe:
    """What is known of a video without decoding more than its first picture.

    Attributes:
      start: when its first picture is shown.
      frames: at 25 fps: picture k is the one that is shown at start + k/25.
      height, width: as it is shown.
      stretch: (down, across), by which pixels of the file are stretched for that.
      notes: what is changed or assumed in reading it, a few words each.
    """

    start: float
    frames: int
    height: int
    width: int
    stretch: tuple[float, float]
    notes: tuple[str, ...]


class Video:
    """An open video.

    Attributes:
      has_sound: whether it has.
      decoded: frames that were decoded so far.
    """

    def __init__(self, container: InputContainer, sound: bool = True, walls: Walls = LOCAL):
        """Raises:
        BadSample: no pictures in it, or no sound where it is needed.
        """
        if not container.streams.video:
            raise BadSample("no video")
        if sound and not container.streams.audio:
            raise BadSample("no sound")
        self._container, self._walls = container, walls
        self._stream = container.streams.video[0]
        self._screen = Screen(self._stream)
        self.has_sound = bool(container.streams.audio)
        self.decoded = 0

    def probe(self) -> Probe:
        """Raises:
        BadSample: it is cut short, or has no pictures that can be decoded.
        UserError: they are too large.
        """
        first = next(self._decode(), None)
        if first is None:
            raise BadSample("no video", "no picture can be decoded")
        start, screen = _time(first), self._screen
        height, width = screen.size(first)
        self._walls.check_pixels(self._container.name, width, height, "video")
        frames = round((self._end() - start) * FPS)
        return Probe(start, frames, height, width, screen.stretch(first), screen.notes(first))

    def times(self) -> Float[np.ndarray, " n"]:
        """When each frame of the file is shown, by what its packets say; none is decoded. To be asked first.

        Raises:
          BadSample: no frame has a time.
        """
        found = [
            float(packet.pts * _unit(packet))
            for packet in packets(self._container, self._stream)
            if packet.pts is not None and packet.size and not packet.is_corrupt and not packet.is_discard
        ]
        if not found:
            raise BadSample("damaged", "frames without times")
        return np.sort(np.array(found))

    def pictures(
        self, times: Sequence[float] | Float[np.ndarray, " n"], size: tuple[int, int], bring: Bring = cover
    ) -> UInt8[np.ndarray, "T H W 3"]:
        """The pictures that are shown at those times (ascending), brought to `size` (H, W).

        Args:
          bring: how; by default they are scaled to cover it, and cropped.

        Raises:
          BadSample: there are not so many, or they are damaged.
        """
        result = np.empty((len(times), *size, 3), np.uint8)
        frames = self._decode_from(times[0])
        shown, following = None, next(frames, None)
        for place, time in enumerate(times):
            new = False
            while following is not None and _time(following) <= time + _EPSILON:
                shown, following, new = following, next(frames, None), True
            if shown is None or (following is None and time >= self._until(shown) + _EPSILON):
                raise BadSample("cut short", f"no picture at {time:.2f} s")
            if shown.is_corrupt:
                raise BadSample("damaged", f"picture at {time:.2f} s")
            if new:
                result[place] = bring(self._screen.picture(shown), size)
            else:
                result[place] = result[place - 1]
        return result

    def sound(self, start: float, samples: int) -> Float32[np.ndarray, " n"]:
        """So many samples at 16 kHz, mono, from that time on; zeros where the file has no sound.

        Raises:
          BadSample: it is damaged, holds values that are no numbers, or is silent.
        """
        seconds = samples / SAMPLE_RATE
        native, rate = self._native_sound(start - _MARGIN, seconds + 2 * _MARGIN)
        inside = slice(round(_MARGIN * rate), round((_MARGIN + seconds) * rate))
        if not (np.abs(native[inside]) <= LOUDEST).all():  # also where it is no number
            raise BadSample("sound not finite", f"between {start:.2f} and {start + seconds:.2f} s")
        if np.abs(native[inside]).sum() < _SILENT:
            raise BadSample("silent window", f"from {start:.2f} to {start + seconds:.2f} s")
        resampled = librosa.resample(np.nan_to_num(native), orig_sr=rate, target_sr=SAMPLE_RATE)
        first = round(_MARGIN * SAMPLE_RATE)
        return resampled[first : first + samples].astype(np.float32)

    def sound_notes(self) -> tuple[str, ...]:
        """What is changed or assumed in reading its sound, as far as that is known before it is decoded."""
        return tuple(about_header(self._container))

    def _native_sound(self, start: float, seconds: float) -> tuple[Float32[np.ndarray, " n"], int]:
        """Mono at the file's rate, every packet at the time it says."""
        sound = SoundStream(self._container, self._container.name, self._walls)
        self._seek(start, sound.stream)  # of AAC, time 0 is not the first packet
        blocks = [block.mean(axis=1) for block in sound.samples(until=start + seconds)]
        if sound.damaged or (blocks and sound.start is None):
            raise BadSample("damaged", "sound" if sound.damaged else "frames without times")
        if len(sound.rates) > 1:
            raise BadSample("damaged", f"sound of several rates {sorted(sound.rates)}")
        rate = sound.rate or SAMPLE_RATE
        native = np.zeros(round(seconds * rate), np.float32)
        if blocks:
            found = np.concatenate(blocks)
            at = round(((sound.start or 0.0) - start) * rate)
            left, right = max(at, 0), min(at + len(found), len(native))
            if left < right:
                native[left:right] = found[left - at : right - at]
        return native, rate

    def _end(self) -> float:
        """When the last picture is over: its packet is read, not decoded.

        A header's length counts from the first time of decoding, which is not that of showing.
        """
        self._seek(math.inf, self._stream)
        ends = [
            float((packet.pts + (packet.duration or 0)) * _unit(packet))
            for packet in packets(self._container, self._stream)
            if packet.pts is not None and packet.size and not packet.is_corrupt
        ]
        if not ends:
            raise BadSample("cut short", "its last pictures are not there")
        return max(ends)

    def _until(self, frame: av.VideoFrame) -> float:
        """When the file's last frame is over."""
        return _time(frame) + max(float((frame.duration or 0) * _unit(frame)), 1 / FPS)

    def _decode_from(self, time: float) -> Iterator[av.VideoFrame]:
        """Frames in order of showing, as whole ones; the first is shown at that time or before, if any is."""
        back = 0.0
        while True:
            self._seek(time - back, self._stream)
            frames = self._decode()
            first = next(frames, None)
            if (first is not None and _time(first) <= time + _EPSILON - self._before(first)) or back > time:
                break
            back = 2 * back + 0.5  # some containers find keyframes by the time of decoding, or not quite
        if first is not None:
            yield from deinterlaced(itertools.chain([first], frames))

    def _before(self, frame: av.VideoFrame) -> float:
        """Seconds to start early: two fields are made a frame with the help of the frame before."""
        rate = self._stream.average_rate
        return 1.5 / float(rate) if frame.interlaced_frame and rate else 0.0

    def _decode(self) -> Iterator[av.VideoFrame]:
        try:
            for frame in decoded(self._container, self._stream):
                self.decoded += 1
                yield frame
        except (av.error.InvalidDataError, av.error.ArgumentError):
            most = f"{self._walls.max_pixels / 1e6:g} million pixels"
            raise BadSample("damaged", f"a picture cannot be decoded, or has more than {most}") from None

    def _seek(self, time: float, stream: av.stream.Stream) -> None:
        """To the keyframe before; to the last one for infinity."""
        ticks = 2**62 if math.isinf(time) else math.floor(time / _unit(stream))
        self._container.seek(ticks, stream=stream)


def _time(frame: av.VideoFrame | av.AudioFrame) -> float:
    if frame.pts is None:
        raise BadSample("damaged", "frames without times")
    return float(frame.pts * _unit(frame))


def _unit(part: av.stream.Stream | av.Packet | av.VideoFrame | av.AudioFrame) -> Fraction:
    """In which its times are counted, in seconds."""
    if part.time_base is None:
        raise BadSample("damaged", "times without a unit")
    return Fraction(part.time_base.numerator, part.time_base.denominator)


@contextmanager
def open_video(path: str, sound: bool = True, walls: Walls = LOCAL) -> Iterator[Video]:
    """Open a video, which must have sound unless told otherwise; what goes wrong, in the body too, becomes a
    `BadSample`."""
    try:
        if not files.exists(path):
            raise BadSample("no such file")
        with open_media(path, "a video", walls) as container:
            yield Video(container, sound, walls)
    except UserError as error:
        raise BadSample("cannot be read", str(error)) from None
    except OSError as error:  # a bucket that does not answer
        raise BadSample("cannot be read", str(error)) from None
