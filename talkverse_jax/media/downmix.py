"""Sound of many loudspeakers as one or two channels.

Surround is mixed down by FFmpeg's own coefficients, which are those of ITU-R BS.775: a front channel counts once, the
centre and what stands beside or behind 0.707 times, the deep effects not at all; all divided by their sum, so that
nothing clips. FFmpeg is asked for them, by sending one sample through each channel.
"""

from dataclasses import dataclass
from functools import lru_cache

import av
import av.error
import numpy as np
from jaxtyping import Float32

# What so many channels are where the file does not say: the order of Microsoft's channel mask.
_USUAL = {3: "3.0", 4: "4.0", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}


@dataclass(frozen=True)
class Downmix:
    """How the channels of a layout become one or two.

    Attributes:
      said: what is done, for the person; "" where the channels stay as they are.
    """

    weights: Float32[np.ndarray, "channels out"]
    said: str = ""

    @property
    def channels(self) -> int:
        """That come out."""
        return self.weights.shape[1]


def downmix(layout: av.AudioLayout) -> Downmix:
    """One and two channels stay, surround becomes stereo, and what has no known places is averaged to one."""
    if layout.nb_channels <= 2:
        return _as_it_is(layout.nb_channels)
    return _downmix(layout.name, layout.nb_channels, all(channel.name == "NONE" for channel in layout.channels))


@lru_cache
def _as_it_is(count: int) -> Downmix:
    return Downmix(np.eye(count, dtype=np.float32))


@lru_cache
def _downmix(name: str, count: int, unnamed: bool) -> Downmix:
    places = _USUAL.get(count) if unnamed else name
    weights = _to_stereo(places, count) if places else None
    if weights is None:
        mean = np.full((count, 1), 1 / count, np.float32)
        return Downmix(mean, f"its {count} channels have no places that are known; their mean is taken")
    taken = f"its {count} channels, taken for {places}," if unnamed else f"its {places} sound"
    return Downmix(weights, f"{taken} {'are' if unnamed else 'is'} mixed down to stereo")


def _to_stereo(places: str, count: int) -> Float32[np.ndarray, "channels 2"] | None:
    """None where FFmpeg does not know how."""
    try:
        pulses = av.AudioFrame.from_ndarray(np.eye(count, dtype=np.float32).reshape(1, -1), "flt", places)
        pulses.sample_rate = 48000
        mixer = av.AudioResampler("s32", "stereo", 48000)  # of floats it would not divide
        mixed = np.concatenate([frame.to_ndarray() for frame in mixer.resample(pulses) + mixer.resample(None)], axis=1)
    except (av.error.FFmpegError, ValueError):
        return None
    weights = (mixed.reshape(-1, 2) / 2.0**31).astype(np.float32)
    return weights if weights.sum() > 0.5 else None
