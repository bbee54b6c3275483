"""Speech-like sound of our own making, and the mouth that makes it: phrases of syllables in no language.

Formant synthesis: pulses of a larynx at a pitch that falls along each phrase, through four resonators whose
frequencies follow the phonemes; hiss where a consonant has some. One track of the mouth's opening drives both
what is heard and what is seen: whoever speaks, in the band of the vowels the voice is as loud as the mouth is open,
without any delay, and hiss and murmur of consonants lie outside that band. So the opening can be told from the sound.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Complex, Float, Float32, Num

from talkverse_jax.toy.timbre import RATE, Timbre, draw_recording, draw_voice, larynx, recorded, tilted

FPS = 25
Turn = tuple[float, float]  # seconds, from .. to

_CONTROL = 200  # values a second of the tracks of the mouth
_GLIDE = 0.022  # seconds (standard deviation) in which the mouth goes from one phoneme to the next
_WINDOW, _HOP = 512, 80  # samples of the short-time spectra that the resonators work on
_BANDWIDTHS = (70.0, 100.0, 140.0, 220.0)
_FOURTH = 3600.0  # Hz; the fourth formant stands still
VOWELS = 300.0, 3400.0  # Hz, of vowels
_LONG_REST = 0.12  # of the rests


class _Phoneme(NamedTuple):
    """What the mouth does, in shares of its widest, and what the formants are, in Hz."""

    opening: float
    width: float
    formants: tuple[float, float, float]
    seconds: float
    hiss: float = 0.0  # amplitude
    hiss_at: float = 0.0  # Hz
    murmur: float = 0.0  # amplitude of the voice through the nose or shut lips


_VOWELS = {
    "a": _Phoneme(1.0, 0.88, (760, 1200, 2500), 0.150),
    "æ": _Phoneme(0.85, 1.02, (660, 1720, 2410), 0.140),
    "e": _Phoneme(0.6, 1.05, (530, 1840, 2480), 0.130),
    "i": _Phoneme(0.36, 1.15, (320, 2250, 2950), 0.120),
    "o": _Phoneme(0.68, 0.72, (560, 900, 2410), 0.140),
    "u": _Phoneme(0.32, 0.62, (330, 900, 2240), 0.120),
    "ə": _Phoneme(0.48, 0.92, (560, 1350, 2450), 0.100),
}
_CONSONANTS = {
    "p": _Phoneme(0.0, 0.85, (400, 1100, 2400), 0.085),
    "b": _Phoneme(0.0, 0.88, (350, 1100, 2400), 0.075, murmur=0.03),
    "m": _Phoneme(0.0, 0.90, (300, 1100, 2300), 0.090, murmur=0.06),
    "f": _Phoneme(0.05, 0.95, (350, 1300, 2500), 0.090, hiss=0.03, hiss_at=6200),
    "t": _Phoneme(0.14, 1.00, (400, 1700, 2600), 0.070, hiss=0.05, hiss_at=5600),
    "d": _Phoneme(0.16, 1.00, (350, 1700, 2600), 0.065),
    "n": _Phoneme(0.16, 1.00, (300, 1600, 2500), 0.075, murmur=0.04),
    "s": _Phoneme(0.12, 1.08, (350, 1700, 2600), 0.110, hiss=0.09, hiss_at=6400),
    "sh": _Phoneme(0.16, 0.72, (350, 1800, 2500), 0.110, hiss=0.08, hiss_at=4700),
    "k": _Phoneme(0.18, 0.95, (350, 1900, 2300), 0.070, hiss=0.03, hiss_at=4600),
    "l": _Phoneme(0.26, 0.95, (380, 1200, 2700), 0.065),
    "r": _Phoneme(0.22, 0.80, (400, 1250, 1700), 0.070),
    "w": _Phoneme(0.10, 0.60, (330, 750, 2200), 0.070),
}
_REST = _Phoneme(0.0, 0.95, (500, 1500, 2500), 0.0)


@dataclass(frozen=True, eq=False)
class Speech:
    """A sound and the mouth that made it.

    Attributes:
      sound: mono at `RATE` Hz, in [-1, 1].
      opening: of the mouth at the time k/25 s of each frame, 0 (shut) to 1 (as wide as it goes).
      width: of the mouth, 1 at rest; pursed below, spread above.
    """

    sound: Float32[np.ndarray, " n"]
    opening: Float[np.ndarray, " T"]
    width: Float[np.ndarray, " T"]


def speak(
    rng: np.random.Generator, seconds: float, voice: Timbre | None = None, turns: Sequence[Turn] | None = None
) -> Speech:
    """Somebody says something for so long; what and where is drawn from `rng`.

    Args:
      voice: whose it is; drawn, too, where None.
      turns: at least one, in order: phrases begin within these, and are said to their end. All of it where None.
    """
    voice, recording = voice or draw_voice(rng), draw_recording(rng)
    tracks = _articulate(rng, voice, seconds, turns)
    samples = round(seconds * RATE)
    times = np.arange(samples) / RATE
    opening, murmur, pitch, hiss = (tracks.at(times, name) for name in ("opening", "murmur", "pitch", "hiss"))
    pulses = larynx(voice, pitch, rng)
    source = pulses + voice.breath * rng.standard_normal(samples)
    spoken = _level(_filtered(source, tracks.formants(voice), voice.tilt), VOWELS) * opening**voice.loudness
    hummed = _level(_filtered(pulses, tracks.low())) * murmur * voice.murmur
    hissed = _level(_filtered(rng.standard_normal(samples), tracks.high())) * hiss * voice.hiss
    frames = np.arange(round(seconds * FPS)) / FPS
    return Speech(
        sound=recorded(spoken + hummed + hissed, recording, rng),
        opening=tracks.at(frames, "opening"),
        width=tracks.at(frames, "width"),
    )


class _Spoken(NamedTuple):
    phoneme: _Phoneme
    seconds: float
    effort: float  # of the syllable: how far the mouth opens, and so how loud it is
    pitch: float  # factor


class _Tracks:
    """Smooth curves over time, `_CONTROL` values a second."""

    def __init__(self, said: list[_Spoken], pitch: float, seconds: float):
        ends = np.cumsum([part.seconds for part in said])
        self.times = np.arange(round(seconds * _CONTROL) + 1) / _CONTROL
        place = np.minimum(np.searchsorted(ends, self.times, side="right"), len(said) - 1)
        steps = {
            "opening": [part.phoneme.opening * part.effort for part in said],
            "width": [part.phoneme.width for part in said],
            "murmur": [part.phoneme.murmur for part in said],
            "hiss": [part.phoneme.hiss for part in said],
            "hiss_at": [part.phoneme.hiss_at or 5000 for part in said],
            "pitch": [pitch * part.pitch for part in said],
            **{f"f{i}": [part.phoneme.formants[i] for part in said] for i in range(3)},
        }
        glides = dict.fromkeys(steps, _GLIDE) | {"pitch": 0.06, "hiss": 0.012, "murmur": 0.012}
        self._curves = {name: _smooth(np.array(steps[name])[place], glides[name] * _CONTROL) for name in steps}

    def at(self, times: Float[np.ndarray, " n"], name: str) -> Float[np.ndarray, " n"]:
        return np.interp(times, self.times, self._curves[name])

    def _hops(self, name: str) -> Float[np.ndarray, " hops"]:
        """A value for each short-time spectrum."""
        return self.at(np.arange(round(self.times[-1] * RATE / _HOP) + 1) * _HOP / RATE, name)

    def formants(self, voice: Timbre) -> list[tuple[Float[np.ndarray, " hops"], float]]:
        """(frequency, bandwidth) of each resonator of the mouth."""
        moving = [self._hops(f"f{i}") * voice.throat * factor for i, factor in enumerate(voice.formants)]
        centres = [*moving, np.full_like(moving[0], _FOURTH * voice.throat)]
        return [(centre, width * voice.damping) for centre, width in zip(centres, _BANDWIDTHS)]

    def low(self) -> list[tuple[Float[np.ndarray, " hops"], float]]:
        """The resonators of a nose: all below the vowels' band."""
        return [(np.full_like(self._hops("f0"), 180.0), 60.0)] * 2

    def high(self) -> list[tuple[Float[np.ndarray, " hops"], float]]:
        """The resonators of a hiss between tongue or lips and teeth."""
        return [(self._hops("hiss_at"), 900.0)] * 2


def _articulate(rng: np.random.Generator, voice: Timbre, seconds: float, turns: Sequence[Turn] | None) -> _Tracks:
    said, length = [], 0.0
    for begin, end in turns or [(_rest(rng, (0.1, 0.35), (0.5, 1.5), 1.0).seconds, seconds)]:
        said.append(_Spoken(_REST, max(0.0, begin - length), 1.0, 1.0))
        length = max(length, begin)
        while length < end:
            said += _phrase(rng, voice)
            said.append(_rest(rng, (0.25, 0.65), (1.0, 3.5), 0.85))
            length = sum(part.seconds for part in said)
    return _Tracks(said, voice.pitch, seconds)


def _rest(rng: np.random.Generator, usual: tuple[float, float], long: tuple[float, float], pitch: float) -> _Spoken:
    """A shut mouth; how many seconds it may take."""
    return _Spoken(_REST, rng.uniform(*(long if rng.uniform() < _LONG_REST else usual)), 1.0, pitch)


def _phrase(rng: np.random.Generator, voice: Timbre) -> list[_Spoken]:
    """Four to ten syllables in one breath; some stressed, the last one drawn out."""
    syllables = int(rng.integers(4, 11))
    vowels, consonants = list(_VOWELS.values()), list(_CONSONANTS.values())
    said = []
    for place in range(syllables):
        stress = rng.uniform() < 0.4
        effort = rng.uniform(0.8, 1.0) if stress else rng.uniform(0.5, 0.85)
        pitch = ((1.12 if stress else 1.0) * (1.1 - 0.28 * place / syllables) * rng.uniform(0.96, 1.04)) ** voice.melody
        drawn_out = 1.4 if place == syllables - 1 else 1.2 if stress else 1.0
        onset = [consonants[rng.integers(len(consonants))]] if rng.uniform() < 0.9 else []
        coda = [consonants[rng.integers(len(consonants))]] if rng.uniform() < 0.3 else []
        vowel = vowels[rng.integers(len(vowels))]
        for phoneme, factor in [*((c, 1.0) for c in onset), (vowel, drawn_out), *((c, 1.0) for c in coda)]:
            length = phoneme.seconds * factor * voice.tempo * rng.uniform(0.85, 1.2)
            said.append(_Spoken(phoneme, length, effort, pitch))
    return said


def _smooth(values: Num[np.ndarray, " n"], sigma: float) -> Float[np.ndarray, " n"]:
    """Gaussian, the ends held."""
    reach = int(np.ceil(3 * sigma))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    return np.convolve(np.pad(values, reach, mode="edge"), kernel / kernel.sum(), mode="valid")


def _filtered(
    source: Float[np.ndarray, " n"], resonators: list[tuple[Float[np.ndarray, " hops"], float]], tilt: float = 0.0
) -> tuple[Complex[np.ndarray, "hops freqs"], int]:
    """Short-time spectra of the source, duller by the tilt, behind resonators in a row; and how many samples it has."""
    hops = len(resonators[0][0])
    padded = np.pad(source, (_WINDOW // 2, _WINDOW + hops * _HOP - len(source)))
    pieces = np.lib.stride_tricks.sliding_window_view(padded, _WINDOW)[::_HOP][:hops]
    spectra = np.fft.rfft(pieces * np.hanning(_WINDOW), 2 * _WINDOW)
    hertz = _hertz()
    spectra = spectra * tilted(hertz, tilt)
    for centre, bandwidth in resonators:
        spectra = spectra * _resonance(hertz, centre[:, None], bandwidth)
    return spectra, len(source)


def _hertz() -> Float[np.ndarray, " freqs"]:
    return np.fft.rfftfreq(2 * _WINDOW, 1 / RATE)


def _resonance(hertz: Float[np.ndarray, " freqs"], centre: Float[np.ndarray, "hops 1"], bandwidth: float) -> np.ndarray:
    """The response of a pair of poles, 1 at 0 Hz."""
    shift = np.exp(-2j * np.pi * hertz / RATE)
    pole = np.exp((-np.pi * bandwidth + 2j * np.pi * centre) / RATE)
    response = lambda z: (1 - pole * z) * (1 - pole.conj() * z)  # noqa: E731
    return response(1.0) / response(shift)


def _level(
    spectra: tuple[Complex[np.ndarray, "hops freqs"], int], band: tuple[float, float] = (0.0, RATE / 2)
) -> Float[np.ndarray, " n"]:
    """The sound of the spectra, each brought to the same power within the band: overlapped and added."""
    values, samples = spectra
    inside = (_hertz() >= band[0]) & (_hertz() <= band[1])
    power = np.sqrt(np.sum(np.abs(values[:, inside]) ** 2, axis=1, keepdims=True) / values.shape[1])
    pieces = np.fft.irfft(values / np.maximum(power, 1e-9), axis=1)
    return overlapped(pieces, _HOP)[_WINDOW // 2 : _WINDOW // 2 + samples]


def overlapped(pieces: Float[np.ndarray, "hops window"], hop: int) -> Float[np.ndarray, " n"]:
    """The sum of pieces of sound that begin so many samples apart."""
    count, window = pieces.shape
    sound = np.zeros((count - 1) * hop + window)
    for place, piece in enumerate(pieces):
        sound[place * hop : place * hop + window] += piece
    return sound
