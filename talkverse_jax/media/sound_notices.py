"""What a person is told of a sound: what is assumed, changed or damaged."""

import math
from collections.abc import Iterator

import av
from av.container import InputContainer

from talkverse_jax.media.downmix import downmix
from talkverse_jax.media.sound_stream import SoundStream, sound_stream

# A peak of -80 dB: three steps of 16 bits. Dither and codecs leave less than that of silence.
_SILENT = 1e-4
_WORTH_SAYING = 0.04  # seconds, a video frame


def about_header(container: InputContainer) -> Iterator[str]:
    """What is known before anything is decoded: which of several streams is heard, and its channels."""
    stream = sound_stream(container)
    if stream is not None:
        yield from about_choice(container, stream)
        if said := downmix(stream.codec_context.layout).said:
            yield said


def about_choice(container: InputContainer, stream: av.AudioStream) -> Iterator[str]:
    """Which of several streams is heard."""
    streams = container.streams.audio
    if len(streams) > 1:
        named = f" ({stream.language})" if stream.language not in (None, "und") else ""
        yield f"has {len(streams)} sound streams; number {streams.index(stream) + 1}{named} is used"


def about_times(stream: SoundStream, late: float) -> Iterator[str]:
    """Silence that was put in, and clocks that jump.

    Args:
      late: seconds from where the sound should begin to where it does.
    """
    if late >= _WORTH_SAYING:
        yield f"its sound begins {seconds(late)} after its pictures; silence stands in front"
    if stream.filled >= _WORTH_SAYING:
        yield f"has gaps of {seconds(stream.filled)} in all, the first at {seconds(stream.gap)}; they become silence"
    if stream.restarts:
        times = "once" if stream.restarts == 1 else f"{stream.restarts} times"
        yield f"its clock jumps {times}; what comes then is taken to follow on"


def about_damage(stream: SoundStream, duration: float, promised: float) -> Iterator[str]:
    """Whether something is missing.

    Args:
      duration, promised: in seconds, what could be decoded and what the header says; 0 where it does not.
    """
    if duration < 0.98 * promised - _WORTH_SAYING:
        yield (
            f"damaged or cut short; of {seconds(promised)} it promises, "
            f"the {seconds(duration)} that could be decoded are used"
        )
    elif stream.damaged:
        yield f"damaged; the {seconds(duration)} that could be decoded are used"


def about_loudness(peak: float, gain: float) -> Iterator[str]:
    """Whether it is silent, or was turned down."""
    if gain != 1:
        yield f"goes up to {peak:.4g} where 1 is full scale; turned down by {-20 * math.log10(gain):.1f} dB"
    if peak < _SILENT:
        yield "is silent; expect a mouth that hardly moves"


def seconds(value: float) -> str:
    return f"{value:.2f} s"
