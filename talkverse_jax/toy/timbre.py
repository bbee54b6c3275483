"""Who is heard: a voice drawn by lot, the sound of its larynx, and what a microphone in a room makes of it.

Voices differ in all that does not tell how far the mouth is open: pitch and its melody, length of the throat, how dull
or breathy they are, how sharp their consonants; and so do microphones, rooms and what hums in the background. So
whoever learns from them must listen to how loud the vowels' band is, which any voice has.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float32

RATE = 16000

_EVEN = 500.0  # Hz; above it a source falls by its tilt
_CLEAN = 0.4  # of the recordings: no echo, no noise, all frequencies
_PEAK = 0.8


class Timbre(NamedTuple):
    """Somebody's way to speak.

    Attributes:
      pitch: Hz on average.
      melody: how far the pitch moves; 1 as usual, 0 not at all.
      shake: by which share one period of the larynx differs from the next.
      throat: factor of all formants.
      formants: factors of the first three.
      tempo: factor of all lengths.
      tilt: decibels an octave that the larynx is duller by.
      breath: noise beside its pulses.
      damping: factor of the formants' bandwidths.
      hiss, murmur: factors of how loud these are.
      loudness: the voice is as loud as the opening of the mouth to this power.
    """

    pitch: float
    melody: float
    shake: float
    throat: float
    formants: tuple[float, float, float]
    tempo: float
    tilt: float
    breath: float
    damping: float
    hiss: float
    murmur: float
    loudness: float


class Recording(NamedTuple):
    """How a voice is recorded.

    Attributes:
      low, high: Hz between which the microphone hears.
      bells: (Hz, decibels) that it hears more or less of, an octave wide.
      echo, seconds: amplitude of the room's echo, and in which time it falls by 60 dB.
      noise: amplitude of what hums in the background, beside a voice of 1.
      peak: the highest value.
    """

    low: float
    high: float
    bells: tuple[tuple[float, float], ...]
    echo: float
    seconds: float
    noise: float
    peak: float


def draw_voice(rng: np.random.Generator) -> Timbre:
    """Somebody's voice, from a man's lowest to a child's."""
    pitch = _log_uniform(rng, 80, 300)
    higher = np.log(pitch / 80) / np.log(300 / 80)  # short throats go with high voices, more or less
    first, second, third = rng.uniform(0.93, 1.07, 3)
    return Timbre(
        pitch=pitch,
        melody=float(rng.uniform(0.2, 1.6)),
        shake=float(rng.uniform(0.0, 0.015)),
        throat=float(0.88 + 0.22 * higher + rng.uniform(-0.06, 0.08)),
        formants=(float(first), float(second), float(third)),
        tempo=float(rng.uniform(0.8, 1.35)),
        tilt=float(rng.uniform(0, 12)),
        breath=float(0.15 * rng.uniform(0.2, 1.6) ** 2),
        damping=_log_uniform(rng, 0.7, 2.0),
        hiss=_log_uniform(rng, 0.4, 3.0),
        murmur=_log_uniform(rng, 0.5, 2.0),
        loudness=float(rng.uniform(1.35, 1.65)),
    )


def draw_recording(rng: np.random.Generator) -> Recording:
    """A studio, a room, a telephone."""
    if rng.uniform() < _CLEAN:
        return Recording(20, RATE / 2, (), 0, 0, 0, _PEAK)
    echoes, hums = rng.uniform(size=2) < 0.5
    return Recording(
        low=_log_uniform(rng, 30, 250),
        high=_log_uniform(rng, 3500, RATE / 2),
        bells=tuple((_log_uniform(rng, 200, 5000), float(rng.uniform(-5, 5))) for _ in range(2)),
        echo=float(rng.uniform(0.1, 0.35)) if echoes else 0,
        seconds=float(rng.uniform(0.1, 0.4)),
        noise=_log_uniform(rng, 0.002, 0.03) if hums else 0,
        peak=_log_uniform(rng, 0.1, 0.95),
    )


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def larynx(voice: Timbre, pitch: Float[np.ndarray, " n"], rng: np.random.Generator) -> Float[np.ndarray, " n"]:
    """A pulse a period."""
    slow = np.repeat(rng.standard_normal(len(pitch) // 100 + 1), 100)[: len(pitch)]  # a value for each period or so
    phase = np.cumsum(pitch * (1 + voice.shake * slow)) / RATE
    return np.diff(np.floor(phase), prepend=0.0)


def tilted(hertz: Float[np.ndarray, " freqs"], tilt: float) -> Float[np.ndarray, " freqs"]:
    """Amplitudes that fall by so many decibels an octave."""
    return (1 + (hertz / _EVEN) ** 2) ** (-tilt / 12.04)


def recorded(
    sound: Float[np.ndarray, " n"], recording: Recording, rng: np.random.Generator
) -> Float32[np.ndarray, " n"]:
    """What the microphone hears."""
    level = max(np.abs(sound).max(), 1e-6)
    sound = sound / level
    if recording.echo:
        sound = sound + recording.echo * _echo(sound, recording.seconds, rng)
    if recording.noise:
        sound = sound + recording.noise * rng.standard_normal(len(sound))
    if recording.bells:
        spectrum = np.fft.rfft(sound, 2 * len(sound))
        sound = np.fft.irfft(spectrum * _hears(recording, np.fft.rfftfreq(2 * len(sound), 1 / RATE)))[: len(sound)]
    return (recording.peak * sound / max(np.abs(sound).max(), 1e-6)).astype(np.float32)


def _echo(sound: Float[np.ndarray, " n"], seconds: float, rng: np.random.Generator) -> Float[np.ndarray, " n"]:
    """The sound from all walls of a room; of the same power."""
    times = np.arange(round(seconds * RATE)) / RATE
    answer = rng.standard_normal(len(times)) * 10 ** (-3 * times / seconds)
    answer /= np.sqrt((answer**2).sum())
    length = len(sound) + len(answer)
    return np.fft.irfft(np.fft.rfft(sound, length) * np.fft.rfft(answer, length), length)[: len(sound)]


def _hears(recording: Recording, hertz: Float[np.ndarray, " freqs"]) -> Float[np.ndarray, " freqs"]:
    """The microphone's amplitude at each frequency."""
    hertz = np.maximum(hertz, 1.0)
    amplitude = 1 / np.sqrt((1 + (recording.low / hertz) ** 4) * (1 + (hertz / recording.high) ** 8))
    for middle, decibels in recording.bells:
        amplitude *= 10 ** (decibels / 20 * np.exp(-2 * np.log2(hertz / middle) ** 2))
    return amplitude
